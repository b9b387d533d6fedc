#!/usr/bin/env bash
# Starts docker-compose.dev.yml in a project and on ports of its own, sends an order through, restarts LocalStack under
# the running services, sends another order, stops everything, and removes it.
#   scripts/compose-smoke.sh [LOCALSTACK_VERSION]      4.14.0 by default
# Prints one PASS or FAIL line per check; the exit status is 0 if all pass.
set -euo pipefail
CDPATH='' cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")/.."
usage='usage: scripts/compose-smoke.sh [LOCALSTACK_VERSION]'
if [ "${1-}" = --help ]; then echo "$usage"; exit; fi
if [ $# -gt 1 ] || ! [[ ${1-4.14.0} =~ ^[0-9.]+$ ]]; then echo "$usage" >&2; exit 2; fi

healthy_seconds=180
stored_seconds=60
order='{"customerId":"C-1001","items":[{"productId":"SKU-1","name":"CD","quantity":2,"unitPrice":1499}],"currency":"USD","totalAmount":2998,"createdAt":"2026-11-22T09:00:00Z"}'

free_port() {
  local port
  while port=$((RANDOM % 10000 + 20000)); (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do :; done
  echo "$port"
}

export LOCALSTACK_VERSION=${1-4.14.0}
export COMPOSE_PROJECT_NAME="orders-smoke-$$-$RANDOM"
LOCALSTACK_PORT=$(free_port) POSTGRES_PORT=$(free_port) PRODUCER_PORT=$(free_port) CONSUMER_PORT=$(free_port)
export LOCALSTACK_PORT POSTGRES_PORT PRODUCER_PORT CONSUMER_PORT

compose_command=(docker-compose)
if docker compose version >/dev/null 2>&1; then compose_command=(docker compose); fi
compose() { "${compose_command[@]}" -f docker-compose.dev.yml "$@"; }

log=$(mktemp)
cleanup() {
  local status=$?
  if [ "$status" -ne 0 ]; then
    echo '--- end of the output of compose and of the containers'
    tail -n 30 "$log"
    compose logs --no-color --tail=40 2>&1 || true
  fi
  compose down --volumes --remove-orphans --rmi local >/dev/null 2>&1 || echo "FAIL cleaning up project $COMPOSE_PROJECT_NAME"
  rm -f "$log"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

begin=$SECONDS
# check WHAT COMMAND...
check() {
  local what=$1 from=$SECONDS
  shift
  if "$@"; then
    echo "PASS $what ($((SECONDS - from)) s)"
  else
    echo "FAIL $what ($((SECONDS - from)) s)"
    exit 1
  fi
}

# within SECONDS COMMAND...: tries once per second until the command succeeds.
within() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    [ "$SECONDS" -lt "$deadline" ] || return 1
    sleep 1
  done
}

quietly() { "$@" >>"$log" 2>&1; }
state() { docker inspect --format "$1" "${containers[@]}"; }
is_healthy() { [ "$(state '{{.State.Health.Status}}' | sort -u)" = healthy ]; }
answers() { curl -fsS --max-time 5 -o /dev/null "$1" 2>>"$log"; }

# Sets $location to the URL where the order can be looked up.
accept_order() {
  local headers
  headers=$(curl -sS --max-time 15 -o /dev/null -D - -H 'content-type: application/json' -d "$order" \
    "http://localhost:$PRODUCER_PORT/orders" 2>>"$log") || return 1
  location=$(tr -d '\r' <<<"$headers" | sed -n 's/^location: //Ip')
  grep -q '^HTTP/[0-9.]* 202' <<<"$headers" && [ -n "$location" ]
}

send_order() {
  check "$1 is accepted" within "$stored_seconds" accept_order
  check "$1 is stored" within "$stored_seconds" answers "$location"
}

never_restarted() { [ "$(state '{{.RestartCount}}' | sort -u)" = 0 ]; }
# The consumer audits the queues at startup, and logs warnings.
audit_is_clean() {
  local lines
  lines=$(docker logs "$consumer" 2>&1) && ! grep 'queue audit' <<<"$lines"
}
exited_with_0() { [ "$(docker inspect --format '{{.State.ExitCode}}' "$1")" = 0 ]; }

echo "${compose_command[*]}, LocalStack $LOCALSTACK_VERSION, project $COMPOSE_PROJECT_NAME"
check 'images are built' quietly compose build
check 'containers start' quietly timeout "$healthy_seconds" "${compose_command[@]}" -f docker-compose.dev.yml up -d
mapfile -t containers < <(compose ps -q)
producer=$(compose ps -q producer)
consumer=$(compose ps -q consumer)
check 'all containers are healthy' within "$healthy_seconds" is_healthy
check 'LocalStack answers' answers "http://localhost:$LOCALSTACK_PORT/_localstack/health"
check 'producer answers' answers "http://localhost:$PRODUCER_PORT/actuator/health"
check 'consumer answers' answers "http://localhost:$CONSUMER_PORT/actuator/health"
check 'the consumer finds nothing wrong with the queues' audit_is_clean
send_order 'an order'

check 'LocalStack restarts' quietly compose restart localstack
check 'all containers are healthy again' within "$healthy_seconds" is_healthy
send_order 'an order after the restart of LocalStack'
check 'no service was restarted for it' never_restarted

check 'containers stop' quietly compose stop
check 'producer ended with status 0' exited_with_0 "$producer"
check 'consumer ended with status 0' exited_with_0 "$consumer"
echo "PASS all, in $((SECONDS - begin)) s"
