import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { SecretName } from './secret-file.ts';

export { Counter, Gauge, Histogram, type Registry };

/** Seconds, from one event-loop turn to a long poll. */
export const LATENCY_BUCKETS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

/** Metrics that both services have. docs/metrics.md says which panel and which alert uses each. */
export type CommonMetrics = {
  registry: Registry;
  httpRequestDuration: Histogram<'method' | 'route' | 'status'>;
  /** Requests that had to say who sends them; `none` where AUTH lets everybody in. */
  authentications: Counter<'method' | 'result'>;
  /** Refused by a limit of CLIENT_*. */
  rateLimited: Counter<'limit'>;
  /** The keys before stay in force. */
  apiKeyFileErrors: Counter;
  /** The keys before stay in force. */
  encryptionKeyFileErrors: Counter;
  /** Since the file of a secret that is in force was last changed. */
  observeSecretAge: (secret: SecretName, ageSeconds: () => number) => void;
  /** Every attempt, retries of the SDK included. */
  sqsRequestDuration: Histogram<'operation' | 'result'>;
  breakerState: Gauge<'breaker'>;
};

/** A registry with these and the metrics of the Node process; both services name themselves in the label `service`. */
export function createMetrics(service: string, version: string): CommonMetrics {
  const registry = new Registry();
  registry.setDefaultLabels({ service });
  collectDefaultMetrics({ register: registry });
  const registers = [registry];
  new Gauge({
    name: 'build_info',
    help: 'always 1; the label carries the version',
    labelNames: ['version'],
    registers,
  }).set({ version }, 1);
  const secretAges = new Map<SecretName, () => number>();
  new Gauge({
    name: 'secret_age_seconds',
    help: 'time since the file of a secret was last changed; in Kubernetes at most since the pod started',
    labelNames: ['secret'],
    registers,
    collect() {
      for (const [secret, ageSeconds] of secretAges) this.set({ secret }, ageSeconds());
    },
  });
  return {
    registry,
    httpRequestDuration: new Histogram({
      name: 'http_server_request_duration_seconds',
      help: 'duration of HTTP requests, up to the response',
      labelNames: ['method', 'route', 'status'],
      buckets: LATENCY_BUCKETS,
      registers,
    }),
    authentications: new Counter({
      name: 'http_authentications_total',
      help: 'requests to routes that are not public, by how their sender said who it is',
      labelNames: ['method', 'result'],
      registers,
    }),
    rateLimited: new Counter({
      name: 'http_rate_limited_total',
      help: 'requests refused because their client, or the address of failed logins, has used up a limit',
      labelNames: ['limit'],
      registers,
    }),
    apiKeyFileErrors: new Counter({
      name: 'api_key_file_errors_total',
      help: 'changes of the file of API keys that could not be used; the keys before stay in force',
      registers,
    }),
    encryptionKeyFileErrors: new Counter({
      name: 'encryption_key_file_errors_total',
      help: 'changes of the file of encryption keys that could not be used; the keys before stay in force',
      registers,
    }),
    observeSecretAge: (secret, ageSeconds) => void secretAges.set(secret, ageSeconds),
    sqsRequestDuration: new Histogram({
      name: 'sqs_request_duration_seconds',
      help: 'duration of requests to SQS, per attempt',
      labelNames: ['operation', 'result'],
      buckets: LATENCY_BUCKETS,
      registers,
    }),
    breakerState: new Gauge({
      name: 'circuit_breaker_state',
      help: 'state of the circuit breaker: 0 closed, 1 open, 2 half-open',
      labelNames: ['breaker'],
      registers,
    }),
  };
}
