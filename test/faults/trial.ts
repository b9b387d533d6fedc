import { randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { DeleteQueueCommand, type SQSClient } from '@aws-sdk/client-sqs';
import type { QueueUrls } from '@orders/shared/sqs/queue-admin.ts';
import { ensureQueues, queueDepth } from '@orders/shared/sqs/queue-admin.ts';
import { aCipher, keyLine } from '@orders/shared/testing/cipher.ts';
import { type Emulator, startEmulator } from '../../dev/emulator.ts';
import { freePorts } from '../../dev/port-owner.ts';
import type { PostgresServer } from '../../dev/postgres-server.ts';
import { CLIENTS, ClientKeys } from './client-keys.ts';
import { type CredentialServer, startCredentialServer } from './credential-server.ts';
import { DeliveryLedger } from './delivery-ledger.ts';
import type { Fault, FaultScene } from './fault.ts';
import { SIZED_CUSTOMER } from './floods.ts';
import {
  type CountedFailure,
  checkInvariants,
  crashLines,
  type Evidence,
  type FoundOrder,
  type Poison,
  STARVED_AFTER_MS,
  type Violation,
} from './invariants.ts';
import {
  archivesIn,
  connect,
  deadLettersIn,
  decryptedBy,
  drain,
  failuresIn,
  foundIn,
  journaledIn,
  lookUp,
  missesFates,
  unjournaledIn,
  unsettled,
} from './observe.ts';
import { ProcessWatch } from './process-watch.ts';
import { createRandom, type Random } from './random.ts';
import { ServiceProcess } from './service-process.ts';
import { baseEnv, GRACE_MS, MAX_IN_WORK, SETTINGS, VISIBILITY_SECONDS } from './settings.ts';
import { type SqsFaultProxy, startSqsFaultProxy } from './sqs-fault-proxy.ts';
import { openPostgresStore, openSqliteStore, type Refusal, type Store } from './store.ts';
import { PAGE_LIMIT } from './store-faults.ts';
import { archiveFolder } from './tool-faults.ts';
import {
  Client,
  createRefused,
  createSubmission,
  createSubmissions,
  type Submission,
  sendPoison,
} from './workload.ts';

const PUBLISH_MS = 4_000;
const PURCHASES = 200;
const POISON_MESSAGES = 12;
/** Sent while the consumers stop. */
const LAST_ORDERS = 40;
/** The wait time of a poll, and a little more. */
const POLL_UNDER_WAY_MS = 1_100;
/** What fails a trial: services not ready, or messages not settled, so long after the faults ended. */
const LIMIT_MS = 120_000;
const START_TIMEOUT_MS = 60_000;
const POLL_MS = 100;
const WATCH_MS = 50;
/** Stored messages give their places back when their deletes are on the way, as long as these are no more. */
const OVERLAP = 100;

export type TrialPlan = {
  seed: number;
  trial: number;
  faults: readonly Fault[];
  /** Drawn as well, but this machine has no means for them. */
  leftOut: readonly string[];
  consumers: number;
  store: Store['kind'];
  /** Of the services, beside those that all trials have. */
  settings: Record<string, string>;
  /** How the database refuses what it is to refuse. */
  refusal: Refusal;
};

export type TrialOptions = {
  /** Empty. Holds store and logs. */
  folder: string;
  /** An SQS, for queues of the trial's own; by default an emulator. */
  endpoint?: string | undefined;
  postgres?: PostgresServer | undefined;
  /** The library that makes clocks jump, where there is one. */
  libfaketime?: string | undefined;
  /** The program of PgBouncer, where there is one. */
  pgbouncer?: string | undefined;
};

export type TrialResult = {
  orders: number;
  accepted: number;
  unknown: number;
  stored: number;
  deadLettered: number;
  /** Failures of refused orders that the consumers counted. */
  failures: number;
  /** Orders that the producer says it accepted without a line in its journal. */
  unjournaled: number;
  /** How often each fault struck, by its name: 0 when there was nothing for it to strike. */
  struck: Record<string, number>;
  violations: Violation[];
  /** From the end of the last fault until all services were ready. */
  recoveryMs: number;
  /** The same until nothing was in the queue and nothing in work. */
  settledMs: number;
  durationMs: number;
  openFilesGrowth: number;
  /** The most memory that a process had at once. */
  peakBytes: number;
  /** The most messages that a consumer had in work at once. */
  inWork: number;
  timeline: string[];
};

/** Runs the two services under faults and judges what is left. Rejects only when the campaign itself cannot work. */
export async function runTrial(plan: TrialPlan, options: TrialOptions): Promise<TrialResult> {
  const trial = new Trial(plan, options);
  try {
    return await trial.run();
  } catch (error) {
    throw new TrialError(error, trial.timeline);
  } finally {
    await trial.close();
  }
}

/** The campaign's own failure, with what had happened until then. */
export class TrialError extends Error {
  override readonly name = 'TrialError';
  readonly code = 'TRIAL';
  readonly timeline: readonly string[];

  constructor(cause: unknown, timeline: readonly string[]) {
    super(cause instanceof Error ? (cause.stack ?? cause.message) : String(cause), { cause });
    this.timeline = timeline;
  }
}

class Trial {
  readonly timeline: string[] = [];
  readonly #plan: TrialPlan;
  readonly #options: TrialOptions;
  readonly #random: Random;
  readonly #startedAt = performance.now();
  readonly #poison: Poison[] = [];
  #submissions: Submission[] = [];
  #emulator: Emulator | undefined;
  #proxy: SqsFaultProxy | undefined;
  #store: Store | undefined;
  #sqs: SQSClient | undefined;
  #queues: QueueUrls | undefined;
  #services: ServiceProcess[] = [];
  readonly #struck: Record<string, number> = {};
  readonly #watch = new ProcessWatch();
  readonly #watching = new AbortController();
  readonly #permitting = new AbortController();
  readonly #ledger = new DeliveryLedger(VISIBILITY_SECONDS);
  readonly #toolFailures: string[] = [];
  #credentials: CredentialServer | undefined;
  #keys: ClientKeys | undefined;
  #starved: string[] = [];

  constructor(plan: TrialPlan, options: TrialOptions) {
    this.#plan = plan;
    this.#options = options;
    this.#random = createRandom(plan.seed, plan.trial, 1);
  }

  async run(): Promise<TrialResult> {
    const { store, sqs, queues, producer, consumers, client, scene } = await this.#start();
    const permitted = this.#permitAfterFailure(store, this.#permitting.signal);
    const watched = this.#watch.watch(this.#services, this.#watching.signal);

    const [{ faultsEndedAt, notReady, recoveryMs }] = await Promise.all([
      this.#sufferFaults(scene),
      this.#publish(client),
      this.#sendPoison(sqs, queues),
      this.#rotateKeys(),
    ]);
    await this.#sendAgain(client);
    const unsettled = await this.#untilSettled(sqs, queues, store, consumers, faultsEndedAt);
    const settledMs = performance.now() - faultsEndedAt;
    this.#note(`settled after ${Math.round(settledMs)} ms`);
    this.#permitting.abort();
    await permitted;

    const askedFor = this.#acceptedIds();
    const sized = this.#submissions.some(({ order }) => order.customerId === SIZED_CUSTOMER);
    const [consumer] = consumers as [ServiceProcess];
    const lookedUp = await lookUp(consumer, askedFor, {
      customerId: sized ? SIZED_CUSTOMER : undefined,
      headers: this.#keys?.headersOf() ?? {},
    });
    const seenBy: Record<string, FoundOrder[]> = {};
    for (const client of this.#keys ? CLIENTS : [])
      seenBy[client] = await lookUp(consumer, askedFor, { headers: this.#keys?.headersOf(client) ?? {} });
    this.#watching.abort();
    await watched;
    const openFilesGrowth = this.#watch.growths();
    const peakBytes = this.#watch.peaks();
    const inFlightAfterStop = await this.#stopUnderLoad(client, sqs, queues);

    const cipher = this.#encrypts
      ? await aCipher({ ...this.#environment, MESSAGE_ENCRYPTION_KEY_FILE: this.#keyFile })
      : undefined;
    const decrypted = decryptedBy(cipher);
    const evidence: Evidence = {
      sent: this.#submissions,
      poison: this.#poison,
      stored: await store.rows(),
      askedFor,
      lookedUp,
      seenBy,
      queued: foundIn(await drain(sqs, queues.queueUrl).then(decrypted)),
      deadLettered: deadLettersIn(await drain(sqs, queues.deadLetterQueueUrl).then(decrypted)),
      failures: this.#failures(),
      journaled: existsSync(this.#journal) ? journaledIn(readFileSync(this.#journal, 'utf8')) : [],
      unjournaled: unjournaledIn(producer.log()),
      inFlightAfterStop,
      unsettled,
      notReady,
      crashes: this.#services.flatMap((service) => crashLines(service.name, service.log())),
      badEnds: this.#services.flatMap(({ badEnds }) => badEnds),
      openFilesGrowth,
      peakBytes,
      fates: await store.fates(),
      fatesMayBeMissing:
        this.#ledger.interruptions > 0 || this.#services.some((service) => missesFates(service.log())),
      explainedCopies: (messageId) => this.#ledger.explains(messageId),
      interruptions: this.#ledger.interruptions + this.#redrives(),
      inWork: this.#ledger.peaks,
      maxInWork: Number(this.#plan.settings['MAX_IN_WORK'] ?? MAX_IN_WORK) + OVERLAP,
      starved: this.#starved,
      ...archivesIn(archiveFolder(this.#options.folder)),
      toolFailures: this.#toolFailures,
      unanswered: this.#mayBeLate() ? [] : client.unanswered,
    };
    cipher?.close();
    const count = (answer: Submission['answer']) =>
      this.#submissions.filter((submission) => submission.answer === answer).length;
    return {
      orders: this.#submissions.length,
      accepted: count('accepted'),
      unknown: count('unknown'),
      stored: evidence.stored.length,
      deadLettered: evidence.deadLettered.length,
      failures: evidence.failures.length,
      unjournaled: evidence.unjournaled,
      struck: this.#struck,
      violations: checkInvariants(evidence),
      recoveryMs: Math.round(recoveryMs),
      settledMs: Math.round(settledMs),
      durationMs: Math.round(performance.now() - this.#startedAt),
      openFilesGrowth: Math.max(0, ...Object.values(openFilesGrowth)),
      peakBytes: Math.max(0, ...Object.values(peakBytes)),
      inWork: Math.max(0, ...Object.values(evidence.inWork)),
      timeline: this.timeline,
    };
  }

  async close(): Promise<void> {
    // Also after a failure of the campaign's own; else they would keep the process alive.
    this.#watching.abort();
    this.#permitting.abort();
    await Promise.all(this.#services.map((service) => service.kill()));
    await this.#deleteQueues();
    this.#sqs?.destroy();
    await this.#proxy?.stop();
    await this.#emulator?.stop();
    await this.#store?.close();
    await this.#credentials?.stop();
  }

  /** The producer may be: it stands still, or has more to read than a slow machine reads in time. */
  #mayBeLate(): boolean {
    // Of the second, what strikes is what is accepted: those that wait while the producer is dead are sent all the same.
    const sent = this.#plan.faults.some(({ name }) => name === 'orders of every size');
    return sent || (this.#struck['producer stalled'] ?? 0) > 0;
  }

  /** Each may send a message twice that it was killed, or overtaken by another one, in the middle of. */
  #redrives(): number {
    return ['redrive killed', 'two redrives'].reduce((sum, name) => sum + (this.#struck[name] ?? 0), 0);
  }

  /** Of an SQS that goes on. */
  async #deleteQueues(): Promise<void> {
    if (!this.#options.endpoint || !this.#queues) return;
    for (const QueueUrl of Object.values(this.#queues))
      await this.#sqs?.send(new DeleteQueueCommand({ QueueUrl }));
  }

  #note(event: string): void {
    const seconds = ((performance.now() - this.#startedAt) / 1_000).toFixed(2).padStart(6);
    this.timeline.push(`${seconds} s  ${event}`);
  }

  async #start() {
    const { folder, postgres, endpoint = await this.#startEmulator() } = this.#options;
    const { faults, consumers: consumerCount } = this.#plan;
    mkdirSync(folder, { recursive: true });
    const id = randomUUID();
    const names = { queue: `order-queue-${id}`, deadLetterQueue: `order-dlq-${id}` };
    const nameOf = (index: number) => (consumerCount === 1 ? 'consumer' : `consumer-${index + 1}`);
    const consumerNames = Array.from({ length: consumerCount }, (_, index) => nameOf(index));
    // The tool that redrives holds messages for 120 s, which would be longer than a trial.
    const proxy = await startSqsFaultProxy({
      target: endpoint,
      random: this.#random.fork(),
      maxVisibilitySeconds: VISIBILITY_SECONDS,
      ledger: { ledger: this.#ledger, clients: consumerNames, queue: names.queue },
    });
    this.#proxy = proxy;
    const store =
      this.#plan.store === 'postgres' && postgres
        ? await openPostgresStore(
            postgres,
            faults.some(({ needs }) => needs.pooler) ? this.#options.pgbouncer : undefined,
          )
        : openSqliteStore(folder);
    this.#store = store;
    const sqs = connect(endpoint);
    this.#sqs = sqs;
    const needsCredentials = faults.some(({ needs }) => needs.credentials);
    const { queue, deadLetterQueue } = await ensureQueues(sqs, needsCredentials ? 'staging' : 'dev', names);
    const queues = { queueUrl: queue.url, deadLetterQueueUrl: deadLetterQueue.url };
    this.#queues = queues;
    const sqsEnv = {
      AWS_ENDPOINT_URL: proxy.url,
      ORDER_QUEUE_NAME: names.queue,
      ORDER_DLQ_NAME: names.deadLetterQueue,
    };

    if (needsCredentials) {
      this.#credentials = await startCredentialServer();
      writeFileSync(this.#apiKeysFile, `campaign orders:write ${'0'.repeat(64)}`);
    }
    if (this.#plan.settings['AUTH'] === 'api-key')
      this.#keys = new ClientKeys(this.#apiKeysFile, this.#random.fork());
    if (this.#encrypts) writeFileSync(this.#keyFile, keyLine('campaign'));
    const clockFile = path.join(folder, 'clock');
    const env = this.#serviceEnv(
      { ...sqsEnv, DATABASE_URL: store.url, ACCEPTANCE_JOURNAL: this.#journal },
      clockFile,
      faults,
    );
    const ports = await freePorts(1 + consumerCount);
    const service = (name: string, role: 'producer' | 'consumer', port: number | undefined) =>
      new ServiceProcess({
        name,
        role,
        port: port as number,
        env: { ...env, AWS_ENDPOINT_URL: proxy.urlFor(name) },
        folder,
        graceMs: GRACE_MS,
        note: (event) => this.#note(event),
        ...(role === 'consumer'
          ? {
              onInterrupted: () => this.#ledger.interrupted(),
              onResumed: () => this.#ledger.resumed(name),
              onEnd: () => this.#ledger.ended(name),
            }
          : {}),
      });
    const producer = service('producer', 'producer', ports[0]);
    const consumers = consumerNames.map((name, index) => service(name, 'consumer', ports[index + 1]));
    this.#services = [producer, ...consumers];
    for (const each of this.#services) each.start();
    await Promise.all(this.#services.map((each) => each.ready(AbortSignal.timeout(START_TIMEOUT_MS))));
    this.#note(`ready, ${store.kind}, consumers: ${consumerCount}`);
    await this.#createOrders(store);
    const client = new Client(producer.url, this.#keys);
    const [{ order }] = this.#submissions as [Submission];

    const scene: FaultScene = {
      random: this.#random.fork(),
      proxy,
      store,
      producer,
      consumers,
      deadLetterQueue: names.deadLetterQueue,
      sqs,
      queues,
      client,
      model: order,
      sent: {
        orders: (orders) => void this.#submissions.push(...orders),
        poison: (poison) => void this.#poison.push(...poison),
      },
      toolFailed: (what) => void this.#toolFailures.push(what),
      cutOff: () => this.#ledger.interrupted(),
      credentials: this.#credentials,
      folder,
      toolEnv: { ...baseEnv(), ...sqsEnv },
      clockFile,
      note: (event) => this.#note(event),
    };
    return { store, sqs, queues, producer, consumers, client, scene };
  }

  get #journal(): string {
    return path.join(this.#options.folder, 'accepted.ndjson');
  }

  async #startEmulator(): Promise<string> {
    this.#emulator = await startEmulator({ port: 0 });
    return this.#emulator.endpoint;
  }

  get #encrypts(): boolean {
    return this.#plan.settings['MESSAGE_ENCRYPTION'] !== undefined;
  }

  get #keyFile(): string {
    return path.join(this.#options.folder, 'encryption-keys');
  }

  get #apiKeysFile(): string {
    return path.join(this.#options.folder, 'api-keys');
  }

  #serviceEnv(own: NodeJS.ProcessEnv, clockFile: string, faults: readonly Fault[]) {
    const env: NodeJS.ProcessEnv = { ...baseEnv(), ...SETTINGS, ...this.#plan.settings, ...own };
    if (this.#encrypts) env['MESSAGE_ENCRYPTION_KEY_FILE'] = this.#keyFile;
    if (faults.some(({ needs }) => needs.limitedDisk)) {
      env['NODE_OPTIONS'] = `--import=${import.meta.resolve('./limited-disk.ts')}`;
      env['CAMPAIGN_PAGE_LIMIT'] = String(PAGE_LIMIT);
    }
    if (faults.some(({ needs }) => needs.clock) && this.#options.libfaketime) {
      writeFileSync(clockFile, '+0');
      env['LD_PRELOAD'] = this.#options.libfaketime;
      env['FAKETIME_TIMESTAMP_FILE'] = clockFile;
      env['FAKETIME_CACHE_DURATION'] = '1';
      env['FAKETIME_DONT_FAKE_MONOTONIC'] = '1';
    }
    if (this.#credentials) env['AWS_CONTAINER_CREDENTIALS_FULL_URI'] = this.#credentials.url;
    return { ...env, ...this.#environment };
  }

  /** Of the services, and of whoever reads what they encrypted. In dev, credentials of an emulator never expire. */
  get #environment(): Record<string, string> {
    const keysFile = { API_KEYS_FILE: this.#apiKeysFile };
    if (!this.#credentials) return this.#keys ? keysFile : {};
    const door = { AUTH: this.#keys ? 'api-key' : 'none,api-key', ...keysFile };
    return { APP_ENV: 'staging', ALLOW_PLAINTEXT: 'sqs,database', ...door };
  }

  /** Those that nothing is wrong with, and those that the database is to refuse. */
  async #createOrders(store: Store): Promise<void> {
    const submissions = await createSubmissions(this.#random.fork(), PURCHASES, {
      twoClients: this.#keys !== undefined,
    });
    const refused = createRefused((submissions[0] as Submission).order);
    await store.refuse(
      refused.map(({ order }) => order.customerId),
      this.#plan.refusal,
    );
    this.#submissions = [...submissions, ...refused];
  }

  #failures(): CountedFailure[] {
    return this.#services.flatMap((service) => failuresIn(service.log()));
  }

  /** Has the database take each order that is to be refused once, as soon as a failure of it was counted. */
  async #permitAfterFailure(store: Store, stop: AbortSignal): Promise<void> {
    const waiting = new Set(this.#submissions.filter(({ refused }) => refused === 'once'));
    for (; waiting.size > 0 && !stop.aborted; await sleep(WATCH_MS)) {
      const failed = new Set(this.#failures().map(({ orderId }) => orderId));
      for (const submission of waiting) {
        if (![...submission.orderIds].some((id) => failed.has(id))) continue;
        try {
          await store.permit(submission.order.customerId);
          waiting.delete(submission);
        } catch {
          // A fault has the database, which then takes no other order either.
        }
      }
    }
  }

  /** Posts all orders over some seconds: one by one or in batches, some of them twice. */
  async #publish(client: Client): Promise<void> {
    const random = this.#random.fork();
    const posts: Promise<void>[] = [];
    const at = (post: () => Promise<void>, withinMs = PUBLISH_MS) => {
      posts.push(sleep(random.between(0, withinMs)).then(post));
    };
    const batched = this.#submissions.filter(({ key }) => key === undefined && random.chance(0.2));
    for (const batch of batchesOf(batched)) at(() => client.postBatch(batch));
    for (const submission of this.#submissions) {
      // What must fail some times until it is given up is sent rather soon: the trial waits for it.
      const withinMs = submission.refused ? PUBLISH_MS / 2 : PUBLISH_MS;
      if (!batched.includes(submission)) at(() => client.post(submission), withinMs);
      // A client that is impatient, or was retried by what stands between.
      if (submission.repeatable && random.chance(0.1)) at(() => client.post(submission));
    }
    await Promise.all(posts);
    this.#note(`${this.#submissions.length} orders posted`);
  }

  /** In the middle of it all, one client's. */
  async #rotateKeys(): Promise<void> {
    if (!this.#keys) return;
    await sleep(this.#random.between(0, PUBLISH_MS / 4));
    this.#note('a key rotates');
    try {
      await this.#keys.rotate(this.#services, AbortSignal.timeout(LIMIT_MS));
      this.#note('the old key is refused');
    } catch (error) {
      this.#toolFailures.push((error as Error).message);
    }
  }

  async #sendPoison(sqs: SQSClient, { queueUrl }: QueueUrls): Promise<void> {
    const random = this.#random.fork();
    const [model] = await createSubmissions(random, 1);
    for (let sent = 0; sent < POISON_MESSAGES; sent++) {
      await sleep(random.between(0, (PUBLISH_MS / POISON_MESSAGES) * 1.5));
      this.#poison.push(await sendPoison(sqs, queueUrl, (model as Submission).order, random));
    }
  }

  async #sufferFaults(scene: FaultScene) {
    await this.#injectAll(scene);
    const faultsEndedAt = performance.now();
    const notReady = await this.#untilReady();
    const recoveryMs = performance.now() - faultsEndedAt;
    this.#note(`ready again after ${Math.round(recoveryMs)} ms`);
    return { faultsEndedAt, notReady, recoveryMs };
  }

  async #injectAll(scene: FaultScene): Promise<void> {
    const moments = this.#random.fork();
    await Promise.all(
      this.#plan.faults.map(async (fault) => {
        const { late } = fault.needs;
        await sleep(moments.between(late ? 1_500 : 200, late ? 3_500 : 2_800));
        this.#note(`fault: ${fault.name}`);
        const struck = await fault.run({ ...scene, random: scene.random.fork() });
        this.#note(`fault ended: ${fault.name}, struck ${struck} times`);
        this.#struck[fault.name] = struck;
      }),
    );
  }

  async #untilReady(): Promise<string[]> {
    const limit = AbortSignal.timeout(LIMIT_MS);
    const waits = this.#services.map((service) =>
      service.ready(limit).then(
        () => [],
        () => [service.name],
      ),
    );
    return (await Promise.all(waits)).flat();
  }

  /** Half of those who got no 202 do what the documentation says: send it again with the same id or key. */
  async #sendAgain(client: Client): Promise<void> {
    const random = this.#random.fork();
    const again = this.#submissions.filter(({ answer, repeatable }) => repeatable && answer === 'unknown');
    await Promise.all(again.filter(() => random.chance(0.5)).map((submission) => client.post(submission)));
  }

  async #untilSettled(
    sqs: SQSClient,
    { queueUrl }: QueueUrls,
    store: Store,
    consumers: readonly ServiceProcess[],
    since: number,
  ): Promise<string[]> {
    const good = this.#submissions.filter(({ answer, refused }) => answer === 'accepted' && !refused);
    for (let calm = 0, looked = false; ; ) {
      const open = await unsettled(sqs, queueUrl, consumers);
      if (!looked && performance.now() - since > STARVED_AFTER_MS) {
        looked = true;
        this.#starved = await missingFrom(store, good);
      }
      calm = open.length === 0 ? calm + 1 : 0;
      if (calm === 3) return [];
      if (performance.now() - since > LIMIT_MS) return open;
      await sleep(POLL_MS);
    }
  }

  #acceptedIds(): string[] {
    const accepted = this.#submissions.filter(({ answer }) => answer === 'accepted');
    return [...new Set(accepted.flatMap(({ orderIds }) => [...orderIds]))];
  }

  /**
   * Stops the consumers while orders go on coming, then the producer while it is asked. Answers how many messages
   * are in flight a moment after the consumers ended: none, since they were in good health.
   */
  async #stopUnderLoad(client: Client, sqs: SQSClient, { queueUrl }: QueueUrls): Promise<number> {
    const random = this.#random.fork();
    const [producer, ...consumers] = this.#services as [ServiceProcess, ...ServiceProcess[]];
    const postLast = (count: number, withinMs: number) => {
      const [model] = this.#submissions as [Submission];
      const { orderId: _orderId, ...order } = model.order;
      const last = Array.from({ length: count }, () => createSubmission(order, 'own id'));
      this.#submissions.push(...last);
      return Promise.all(
        last.map((each) => sleep(random.between(0, withinMs)).then(() => client.post(each))),
      );
    };
    const posts = postLast(LAST_ORDERS, POLL_UNDER_WAY_MS);
    await sleep(random.between(0, POLL_UNDER_WAY_MS / 3));
    this.#note('consumers are stopped');
    await Promise.all(consumers.map((consumer) => consumer.stop()));
    // A poll that was aborted would go on taking messages until its wait time is over.
    await Promise.all([posts, sleep(POLL_UNDER_WAY_MS)]);
    const { inFlight } = await queueDepth(sqs, queueUrl);
    this.#note('producer is stopped');
    await Promise.all([postLast(LAST_ORDERS / 4, 50), sleep(25).then(() => producer.stop())]);
    return inFlight;
  }
}

/** The tags of those of which no order of their id is stored. */
async function missingFrom(store: Store, submissions: readonly Submission[]): Promise<string[]> {
  const stored = new Set((await store.rows()).map(({ orderId }) => orderId));
  const isMissing = ({ orderIds, storedLongAgo }: Submission) =>
    !storedLongAgo && ![...orderIds].some((id) => stored.has(id));
  return submissions.filter(isMissing).map(({ tag }) => tag);
}

/** Of at most 20, none of which holds an id twice. */
function batchesOf(submissions: readonly Submission[]): Submission[][] {
  const batches: Submission[][] = [];
  for (const submission of submissions) {
    const { orderId } = submission.order;
    const fits = (batch: Submission[]) =>
      batch.length < 20 && (orderId === undefined || batch.every(({ order }) => order.orderId !== orderId));
    const batch = batches.find(fits);
    if (batch) batch.push(submission);
    else batches.push([submission]);
  }
  return batches;
}
