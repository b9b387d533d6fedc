#!/usr/bin/env bash
# See --help. Not through npm, which keeps signals from it: Ctrl-C goes back in good order.
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." && node scripts/prepare.mjs || exit
export PATH="$PWD/node_modules/.bin:$PATH"
exec node scripts/deploy.ts "$@"
