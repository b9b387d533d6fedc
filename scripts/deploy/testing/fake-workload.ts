import { randomUUID } from 'node:crypto';
import { DeploymentError } from '../errors.ts';
import type { DeploymentObject } from '../kubectl.ts';
import { releaseOf } from '../manifests.ts';
import { pause } from '../pause.ts';
import type { ClusterResponse } from '../pod-http.ts';

/** What is wrong with a release. */
export type Fault = {
  /** Pods never get ready, and say why. */
  waits?: { reason: string; message: string };
  /** The consumer dead-letters everything. */
  rejects?: boolean;
  /** The producer answers nobody any more from the first order of a client on. */
  hangsUnderLoad?: boolean;
  /** The producer answers the synthetic orders, and nobody else. */
  hangsClients?: boolean;
  /** The producer answers every order of a client with 500. */
  refusesClients?: boolean;
  /** Its migration: once a pod of it is ready, consumers of other releases fail. */
  breaksOthers?: boolean;
  /** Its pods are on a node that has died. */
  neverEnds?: boolean;
  /** What its image calls itself. */
  version?: string;
};

export type FakePod = {
  name: string;
  deployment: string;
  labels: Record<string, string>;
  image: string;
  /** As its container declares them, by name. */
  ports: Record<string, number>;
  release: string;
  bornAt: number;
  isEnding: boolean;
  endsAt: number;
  isPending: boolean;
  counts: typeof NO_COUNTS;
};

const START_MS = 3_000;
const END_MS = 8_000;
const NO_COUNTS = { processed: 0, retry: 0, rejected: 0, accepted: 0, failed: 0, unanswered: 0 };

/** Pods that take orders, store them or dead-letter them, in the time of the fake timers. */
export class FakeWorkload {
  readonly faults: Record<string, Fault> = {};
  /** What clients got. */
  readonly clients = { accepted: [] as string[], failed: [] as { at: number; release: string }[] };
  readonly stored = new Set<string>();
  readonly storedTwice: string[] = [];
  deadLetters: { id: string; codeVersion: string; at: Date }[] = [];
  pods: FakePod[] = [];
  ordersPerSecond = 20;
  /** Pods of this app that the nodes have no room for, from this many on. */
  capacity: Record<string, number> = {};
  #queue: string[] = [];
  #turn = 0;
  #owed = 0;

  now = () => performance.now();
  isReady = (pod: FakePod) =>
    !pod.isPending && !this.faultOf(pod).waits && this.now() >= pod.bornAt + START_MS;
  faultOf = (pod: FakePod): Fault => this.faults[pod.release] ?? {};

  start(deployment: DeploymentObject, hash: string): void {
    const { labels } = deployment.spec.template.metadata;
    const capacity = this.capacity[labels['app'] ?? ''] ?? Number.POSITIVE_INFINITY;
    const { name } = deployment.metadata;
    this.pods.push({
      name: `${name}-${hash}-${randomUUID().slice(0, 5)}`,
      deployment: name,
      labels: { ...labels, 'pod-template-hash': hash },
      image: deployment.spec.template.spec.containers[0].image,
      ports: Object.fromEntries(
        (deployment.spec.template.spec.containers[0].ports ?? []).map(({ name = '', containerPort }) => [
          name,
          containerPort,
        ]),
      ),
      release: releaseOf(deployment),
      bornAt: this.now(),
      isEnding: false,
      endsAt: Number.POSITIVE_INFINITY,
      isPending: this.pods.filter((pod) => pod.labels['app'] === labels['app']).length >= capacity,
      counts: { ...NO_COUNTS },
    });
  }

  end(pod: FakePod): void {
    pod.isEnding = true;
    if (!this.faultOf(pod).neverEnds) pod.endsAt = Math.min(pod.endsAt, this.now() + END_MS);
  }

  /** Orders come in and are worked off, for so long. */
  work(milliseconds: number, producers: FakePod[]): void {
    this.pods = this.pods.filter((pod) => pod.endsAt > this.now());
    this.#owed += (this.ordersPerSecond * milliseconds) / 1_000;
    for (; this.#owed >= 1; this.#owed--) {
      const producer = producers[this.#turn++ % Math.max(1, producers.length)];
      if (producer) this.#accept(producer, randomUUID());
      else this.clients.failed.push({ at: this.now(), release: 'none' });
    }
    const due = this.#queue;
    this.#queue = [];
    const consumers = this.pods.filter((pod) => pod.labels['app'] === 'order-consumer' && this.isReady(pod));
    for (const id of due) {
      const consumer = consumers[this.#turn++ % Math.max(1, consumers.length)];
      if (consumer) this.#consume(consumer, id);
      else this.#queue.push(id);
    }
  }

  redrive(codeVersion: string, since: Date): number {
    const due = this.deadLetters.filter((letter) => letter.codeVersion === codeVersion && letter.at >= since);
    this.deadLetters = this.deadLetters.filter((letter) => !due.includes(letter));
    this.#queue.push(...due.map(({ id }) => id));
    return due.length;
  }

  async answer(
    pod: FakePod,
    port: number,
    path: string,
    body: { orderId: string } | undefined,
  ): Promise<ClusterResponse> {
    const ok = (value: unknown, status = 200) => ({
      status,
      body: typeof value === 'string' ? value : JSON.stringify(value),
      durationMs: 20,
    });
    const fault = this.faultOf(pod);
    const { management = port } = pod.ports;
    if (path === '/metrics') return port === management ? ok(this.#metrics(pod)) : ok({}, 404);
    if (port !== pod.ports['http']) return ok({}, 404);
    if (path === '/actuator/info') return ok({ build: { version: fault.version ?? pod.release } });
    if (path.startsWith('/orders?orderIds=')) {
      const ids = path.slice('/orders?orderIds='.length).split(',');
      return ok({ orders: ids.filter((id) => this.stored.has(id)) });
    }
    if (!body) return ok({ status: 'UP' });
    if (pod.counts.unanswered > 0) {
      await pause(new AbortController().signal, 5_000);
      throw new DeploymentError('NO_ANSWER', `no answer from ${pod.name}`);
    }
    pod.counts.accepted++;
    this.#queue.push(body.orderId);
    return ok({}, 202);
  }

  #accept(pod: FakePod, id: string): void {
    const { refusesClients, hangsUnderLoad, hangsClients } = this.faultOf(pod);
    if (refusesClients) pod.counts.failed++;
    if (hangsUnderLoad) pod.counts.unanswered++;
    if (refusesClients || hangsUnderLoad || hangsClients) {
      this.clients.failed.push({ at: this.now(), release: pod.release });
      return;
    }
    pod.counts.accepted++;
    this.clients.accepted.push(id);
    this.#queue.push(id);
  }

  #consume(pod: FakePod, id: string): void {
    const breaker = this.pods.some((other) => this.faultOf(other).breaksOthers && this.isReady(other));
    const { rejects, breaksOthers, version } = this.faultOf(pod);
    if (rejects) {
      pod.counts.rejected++;
      this.deadLetters.push({ id, codeVersion: version ?? pod.release, at: new Date() });
    } else if (breaker && !breaksOthers) {
      pod.counts.retry++;
      this.#queue.push(id);
    } else {
      pod.counts.processed++;
      if (this.stored.has(id)) this.storedTwice.push(id);
      this.stored.add(id);
    }
  }

  #metrics({ counts: { processed, retry, rejected, accepted, failed } }: FakePod): string {
    return [
      `orders_processed_total{outcome="processed",cause=""} ${processed}`,
      `orders_processed_total{outcome="retry",cause=""} ${retry}`,
      `orders_processed_total{outcome="rejected",cause=""} ${rejected}`,
      `orders_dead_lettered_total{reason="x"} ${rejected}`,
      `order_processing_duration_seconds_sum ${processed * 0.01}`,
      `order_processing_duration_seconds_count ${processed}`,
      `orders_accepted_total ${accepted}`,
      ...['202', '500'].flatMap((status) => {
        const labels = `{method="POST",route="/orders",status="${status}"}`;
        const count = status === '202' ? accepted : failed;
        return [
          `http_server_request_duration_seconds_count${labels} ${count}`,
          `http_server_request_duration_seconds_sum${labels} ${count * 0.02}`,
        ];
      }),
    ].join('\n');
  }
}
