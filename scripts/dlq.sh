#!/usr/bin/env bash
# See scripts/dlq.ts, or call it without arguments.
cd "$(dirname "$0")/.." && exec npm run --silent dlq -- "$@"
