#!/bin/sh
# See --help. npm passes on the folder it was called from.
root=$(dirname -- "$(readlink -f -- "$0")")/..
node "$root/scripts/prepare.mjs" || exit
exec npm --prefix "$root" run --silent diagnose -- "$@"
