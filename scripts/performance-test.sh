#!/usr/bin/env bash
# See --help. npm passes on the folder it was called from.
exec npm --prefix "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." run --silent performance-test -- "$@"
