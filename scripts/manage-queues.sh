#!/usr/bin/env bash
# See scripts/manage-queues.ts, or call it without arguments.
cd "$(dirname "$0")/.." && exec npm run --silent manage-queues -- "$@"
