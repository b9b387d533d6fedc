#!/usr/bin/env bash
# See bench/performance-test.ts. Example: scripts/performance-test.sh --messages=10000 --concurrent=50
cd "$(dirname "$0")/.." && exec npm run --silent performance-test -- "$@"
