#!/usr/bin/env bash
# See scripts/rollback.ts, or call it without arguments.
cd "$(dirname "$0")/.." && exec npm run --silent rollback -- "$@"
