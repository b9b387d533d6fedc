#!/usr/bin/env bash
# See scripts/retention.ts, or call it without arguments. npm tells it the folder that it was called from.
exec npm --prefix "$(dirname "$0")/.." run --silent retention -- "$@"
