#!/usr/bin/env bash
# See --help. npm passes on the folder it was called from.
root=$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/..
node "$root/scripts/prepare.mjs" || exit
exec npm --prefix "$root" run --silent performance-test -- "$@"
