#!/usr/bin/env bash
# See scripts/verify-deployment.ts, or call it without arguments.
cd "$(dirname "$0")/.." && exec npm run --silent verify-deployment -- "$@"
