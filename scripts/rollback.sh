#!/bin/sh
# See --help. Does not go through npm, which would not pass on signals.
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "$0")")/.." && node scripts/prepare.mjs || exit
export PATH="$PWD/node_modules/.bin:$PATH"
exec node scripts/rollback.ts "$@"
