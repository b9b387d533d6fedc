#!/usr/bin/env bash
# See scripts/deploy.ts, or call it without arguments. Not through npm, which keeps signals from it: Ctrl-C goes back in good order.
cd "$(dirname "$0")/.." && node scripts/prepare.mjs || exit
export PATH="$PWD/node_modules/.bin:$PATH"
exec node scripts/deploy.ts "$@"
