#!/usr/bin/env bash
# See scripts/deploy.ts, or call it without arguments.
cd "$(dirname "$0")/.." && exec npm run --silent deploy -- "$@"
