#!/usr/bin/env bash
# See --help. npm tells it the folder that it was called from.
exec npm --prefix "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.." run --silent client-key -- "$@"
