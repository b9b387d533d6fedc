import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { DeliveryLedger } from './delivery-ledger.ts';
import type { Random } from './random.ts';

/** One way in which SQS, or the network before it, misbehaves. */
export type SqsFault = {
  /** Only these requests (`SendMessageBatch`, …); by default all. */
  operations?: readonly string[];
  /** Only requests for the queue of that name; by default for all. */
  queue?: string;
  /** How many of them are struck, 0 to 1; by default all. */
  share?: number;
} & (
  | /** Nobody listens. Connections that are open are cut. */ { kind: 'unreachable' }
  | { kind: 'slow'; delayMs: number }
  | /** The connection is reset; nothing was forwarded. */ { kind: 'reset' }
  | /** Answered with an error; nothing was forwarded. */ {
      kind: 'refuse';
      status: number;
      code: string;
    } /** Forwarded and done, but the client never hears of it: its connection breaks, or stays silent. */
  | { kind: 'lose-answer'; how: 'reset' | 'silence' }
  | /** Neither forwarded nor answered, until the client gives up. */ { kind: 'hang' }
  | /** A part of each batch fails; of that part, half was done all the same where the code leaves that open. */ {
      kind: 'partial';
      /** One of these an entry; by default SQS's own failure. */
      as?: readonly EntryFailure[];
    } /** What was received comes again, `times - 1` times, also when it was deleted meanwhile. */
  | { kind: 'repeat'; times: number }
  | /** The same message twice in one answer, within what was asked for. */ { kind: 'same-batch-twice' }
  | /** Answers are shuffled, and some messages come some seconds later. */ { kind: 'out-of-order' }
  | /** Messages come back after so long, whatever was asked for. */ { kind: 'visibility'; seconds: number }
);

/** What SQS answers of one entry of a batch. */
export type EntryFailure = { code: string; senderFault: boolean };

/** A fault that is on. */
export type ActiveFault = {
  /**
   * How many requests it struck so far; of `unreachable` the connections that it cut, of `repeat` the messages that came
   * again, of `visibility` the receives that got any.
   */
  readonly hits: number;
  /** Resolves when SQS is as before. What waited in silence stays so. */
  end: () => Promise<void>;
};

export type SqsFaultProxy = {
  url: string;
  /** The same, for a client that is to be told apart. */
  urlFor: (client: string) => string;
  inject: (fault: SqsFault) => Promise<ActiveFault>;
  stop: () => Promise<void>;
};

export type SqsFaultProxyOptions = {
  /** Where requests go: anything that speaks the JSON protocol of SQS. */
  target: string;
  random: Random;
  /** Upper bound of the visibility time that any request asks for: scales down what is hard-wired. */
  maxVisibilitySeconds?: number;
  /** Told of what goes to and from these clients, by the names of `urlFor`, about the queue of that name. */
  ledger?: { ledger: DeliveryLedger; clients: readonly string[]; queue: string };
};

type Json = Record<string, unknown>;
type Message = { MessageId: string; ReceiptHandle: string; Attributes?: Record<string, string> };
type Active<F extends SqsFault = SqsFault> = { fault: F; hits: number };
type Repeat = Extract<SqsFault, { kind: 'repeat' }>;
type Copy = { queueUrl: unknown; dueAt: number; message: Message; repeat: Active };
type Request = { operation: string; input: Json; authorization: string | undefined; client: string };
type Forwarded = { status: number; body: string };

const CONTENT_TYPE = 'application/x-amz-json-1.0';
const COPY_DELAY_MS = { min: 100, max: 2_500 };
const SET_ASIDE_SECONDS = { min: 1, max: 2 };
const RELISTEN_MS = 50;
/** An answer that takes longer may come too late. */
const LATE_MS = 1_000;
const OWN_FAILURE: EntryFailure = { code: 'InternalError', senderFault: false };
/** Whether the entry was done is not said by these. */
const OPEN_ENDED = /^(?:InternalError|InternalFailure|ServiceUnavailable)$/;

/** Stands before an SQS and does to its clients what networks and queues do. Listens on the loopback interface only. */
export async function startSqsFaultProxy(options: SqsFaultProxyOptions): Promise<SqsFaultProxy> {
  const proxy = new FaultProxy(options);
  const url = await proxy.listen();
  return {
    url,
    urlFor: (client) => `${url}/${client}`,
    inject: (fault) => proxy.inject(fault),
    stop: () => proxy.stop(),
  };
}

class FaultProxy {
  readonly #options: SqsFaultProxyOptions;
  readonly #active = new Set<Active>();
  #copies: Copy[] = [];
  #server = http.createServer();
  #port = 0;
  #stopped = false;

  constructor(options: SqsFaultProxyOptions) {
    this.#options = options;
  }

  async listen(): Promise<string> {
    const server = http.createServer((request, response) => {
      this.#answer(request, response).catch(() => request.socket.destroy());
    });
    server.listen(this.#port, '127.0.0.1');
    await once(server, 'listening');
    this.#server = server;
    this.#port = (server.address() as AddressInfo).port;
    return `http://127.0.0.1:${this.#port}`;
  }

  async inject(fault: SqsFault): Promise<ActiveFault> {
    const active = { fault, hits: 0 };
    this.#active.add(active);
    if (fault.kind === 'unreachable') {
      this.#options.ledger?.ledger.interrupted();
      active.hits += await this.#close();
    }
    const end = async () => {
      if (!this.#active.delete(active)) return;
      if (fault.kind === 'repeat') this.#copies = [];
      if (fault.kind === 'unreachable' && this.#matching('unreachable').length === 0) await this.#relisten();
    };
    return {
      get hits() {
        return active.hits;
      },
      end,
    };
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#close();
  }

  /** Resolves with how many connections it cut. */
  async #close(): Promise<number> {
    const server = this.#server;
    if (!server.listening) return 0;
    const open = await promisify(server.getConnections.bind(server))();
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
    return open;
  }

  /** On the port it had. Another process may have it for a moment. */
  async #relisten(): Promise<void> {
    while (!this.#stopped) {
      try {
        await this.listen();
        return;
      } catch {
        await sleep(RELISTEN_MS);
      }
    }
  }

  #matching(kind: SqsFault['kind']): Active[] {
    return [...this.#active].filter(({ fault }) => fault.kind === kind);
  }

  /** The fault of that kind that strikes this request, counted. */
  #strikes<K extends SqsFault['kind']>(
    kind: K,
    request: Request,
  ): Extract<SqsFault, { kind: K }> | undefined {
    const active = this.#striking(kind, request);
    if (active) active.hits++;
    return active?.fault;
  }

  /** The same, not counted: whether there is anything to strike is seen later. */
  #striking<K extends SqsFault['kind']>(
    kind: K,
    { operation, input }: Request,
  ): Active<Extract<SqsFault, { kind: K }>> | undefined {
    for (const active of this.#matching(kind)) {
      const { operations, queue, share = 1 } = active.fault;
      if (operations && !operations.includes(operation)) continue;
      if (queue !== undefined && !String(input['QueueUrl']).endsWith(`/${queue}`)) continue;
      if (share < 1 && !this.#options.random.chance(share)) continue;
      return active as Active<Extract<SqsFault, { kind: K }>>;
    }
    return undefined;
  }

  async #answer(message: http.IncomingMessage, response: http.ServerResponse): Promise<void> {
    const request = await read(message);
    const startedAt = performance.now();
    this.#see(request);
    const slow = this.#strikes('slow', request);
    if (slow) await sleep(slow.delayMs);
    if (this.#strikes('hang', request)) return void response.once('close', () => this.#blame(request));
    if (this.#strikes('reset', request)) {
      this.#blame(request);
      return void message.socket.resetAndDestroy();
    }
    const refuse = this.#strikes('refuse', request);
    if (refuse) {
      this.#blame(request);
      return respond(response, refusal(refuse));
    }

    const { maxVisibilitySeconds = Number.POSITIVE_INFINITY } = this.#options;
    for (const entry of [request.input, ...entriesOf(request)]) limitVisibility(entry, maxVisibilitySeconds);
    const answer = await this.#perform(request);
    const lost = this.#strikes('lose-answer', request);
    // The client may have given up, also where that is not seen yet.
    const late = performance.now() - startedAt >= LATE_MS;
    if (lost || response.destroyed || answer.status !== 200) this.#blame(request);
    else if (late && request.operation !== 'ReceiveMessage') this.#blame(request);
    else this.#deliver(request, answer);
    if (lost?.how === 'reset') return void message.socket.resetAndDestroy();
    if (!lost) respond(response, answer);
  }

  /** The ledger, where it is told of the client. */
  #ledgerOf({ client }: Request): DeliveryLedger | undefined {
    const { ledger } = this.#options;
    return ledger?.clients.includes(client) ? ledger.ledger : undefined;
  }

  #see(request: Request): void {
    const { client, operation } = request;
    const ledger = this.#ledgerOf(request);
    if (operation.startsWith('SendMessage')) ledger?.sent(client, entriesOf(request));
    else ledger?.asked(client, operation, entriesOf(request));
  }

  #blame(request: Request, entries = entriesOf(request)): void {
    if (entries.length > 0) this.#ledgerOf(request)?.disturbed(request.client, request.operation, entries);
  }

  #deliver(request: Request, { body }: Forwarded): void {
    const { client, operation, input } = request;
    const ledger = this.#ledgerOf(request);
    if (
      operation !== 'ReceiveMessage' ||
      !String(input['QueueUrl']).endsWith(`/${this.#options.ledger?.queue}`)
    )
      return;
    const { Messages = [] } = JSON.parse(body) as { Messages?: Message[] };
    if (Messages.length > 0) ledger?.delivered(client, Messages);
  }

  #perform(request: Request): Promise<Forwarded> {
    if (request.operation === 'ReceiveMessage') return this.#receive(request);
    const partial = entriesOf(request).length > 0 ? this.#strikes('partial', request) : undefined;
    return partial ? this.#failPart(request, partial) : this.#forward(request);
  }

  async #failPart(
    request: Request,
    { as = [OWN_FAILURE] }: Extract<SqsFault, { kind: 'partial' }>,
  ): Promise<Forwarded> {
    const { random } = this.#options;
    const entries = random.shuffle(entriesOf(request));
    const failures = new Map(
      entries.slice(0, random.integer(1, entries.length)).map((entry) => [entry, random.pick(as)]),
    );
    const done = entries.filter((entry) => {
      const failure = failures.get(entry);
      return !failure || (OPEN_ENDED.test(failure.code) && random.chance(0.5));
    });
    this.#blame(request, [...failures.keys()]);
    const answer: Json = {};
    if (done.length > 0) {
      const forwarded = await this.#forward({ ...request, input: { ...request.input, Entries: done } });
      if (forwarded.status !== 200) return forwarded;
      Object.assign(answer, JSON.parse(forwarded.body));
    }
    const failed = [...failures].map(([{ Id }, { code, senderFault }]) => ({
      Id,
      SenderFault: senderFault,
      Code: code,
      Message: 'injected',
    }));
    const fails = (id: unknown) => failed.some(({ Id }) => Id === id);
    const answered = (list: unknown) => ((list ?? []) as Json[]).filter(({ Id }) => !fails(Id));
    answer['Successful'] = answered(answer['Successful']);
    answer['Failed'] = [...answered(answer['Failed']), ...failed];
    return json(200, answer);
  }

  async #receive(request: Request): Promise<Forwarded> {
    const shorter = this.#striking('visibility', request);
    if (shorter) limitVisibility(request.input, shorter.fault.seconds);
    const forwarded = await this.#forward(request);
    if (forwarded.status !== 200) return forwarded;
    const answer = JSON.parse(forwarded.body) as { Messages?: Message[] };
    const received = answer.Messages ?? [];
    if (shorter && received.length > 0) {
      shorter.hits++;
      this.#ledgerOf(request)?.cut(received);
    }
    const messages = await this.#disturb(received, request);
    return messages === received
      ? forwarded
      : json(200, { ...answer, Messages: messages.slice(0, askedFor(request)) });
  }

  async #disturb(received: Message[], request: Request): Promise<Message[]> {
    const { random } = this.#options;
    const queueUrl = request.input['QueueUrl'];
    let messages = received;
    if (received.length > 0 && this.#strikes('out-of-order', request)) {
      messages = random.shuffle(received);
      const aside = random.chance(0.3) ? messages.splice(0, random.integer(1, messages.length)) : [];
      for (const { ReceiptHandle } of aside) await this.#setAside(ReceiptHandle, request);
    }
    const repeat = received.length > 0 ? this.#striking('repeat', request) : undefined;
    if (repeat) this.#remember(received, queueUrl, repeat);
    const due = this.#takeDue(queueUrl, askedFor(request) - messages.length);
    if (due.length > 0) messages = [...messages, ...due];
    if (messages.length > 0 && askedFor(request) > 1 && this.#strikes('same-batch-twice', request)) {
      // What no longer fits comes again after its visibility time.
      messages = messages.flatMap((message) => [message, message]);
    }
    return messages;
  }

  /** With the credentials of the request: an SQS may take the region from them. */
  async #setAside(ReceiptHandle: string, request: Request): Promise<void> {
    const { input } = request;
    const VisibilityTimeout = this.#options.random.integer(SET_ASIDE_SECONDS.min, SET_ASIDE_SECONDS.max);
    const change = { QueueUrl: input['QueueUrl'], ReceiptHandle, VisibilityTimeout };
    await this.#forward({ ...request, operation: 'ChangeMessageVisibility', input: change });
  }

  #remember(messages: Message[], queueUrl: unknown, repeat: Active<Repeat>): void {
    for (const message of messages) {
      const receives = Number(message.Attributes?.['ApproximateReceiveCount'] ?? 1);
      for (let again = 1; again < repeat.fault.times; again++) {
        const Attributes = { ...message.Attributes, ApproximateReceiveCount: String(receives + again) };
        const delayMs = this.#options.random.between(COPY_DELAY_MS.min, COPY_DELAY_MS.max);
        const dueAt = performance.now() + delayMs;
        this.#copies.push({ queueUrl, dueAt, message: { ...message, Attributes }, repeat });
      }
    }
  }

  #takeDue(queueUrl: unknown, most: number): Message[] {
    const now = performance.now();
    const due = this.#copies
      .filter((copy) => copy.queueUrl === queueUrl && copy.dueAt <= now)
      .slice(0, Math.max(0, most));
    this.#copies = this.#copies.filter((copy) => !due.includes(copy));
    for (const { repeat } of due) repeat.hits++;
    return due.map(({ message }) => message);
  }

  async #forward({ operation, input, authorization }: Omit<Request, 'client'>): Promise<Forwarded> {
    const response = await fetch(this.#options.target, {
      method: 'POST',
      headers: {
        'content-type': CONTENT_TYPE,
        'x-amz-target': `AmazonSQS.${operation}`,
        ...(authorization ? { authorization } : {}),
      },
      body: JSON.stringify(input),
    });
    return { status: response.status, body: await response.text() };
  }
}

async function read(message: http.IncomingMessage): Promise<Request> {
  const chunks: Buffer[] = [];
  for await (const chunk of message) chunks.push(chunk);
  const { authorization, 'x-amz-target': target } = message.headers;
  const operation = String(target).split('.').at(-1) as string;
  const input = JSON.parse(Buffer.concat(chunks).toString() || '{}') as Json;
  const client = String(message.url).split('/')[1] ?? '';
  return { operation, authorization, input, client };
}

function entriesOf({ input }: Request): Json[] {
  return Array.isArray(input['Entries']) ? input['Entries'] : [];
}

function askedFor({ input }: Request): number {
  return Number(input['MaxNumberOfMessages'] ?? 1);
}

function limitVisibility(input: Json, seconds: number): void {
  if (Number(input['VisibilityTimeout'] ?? 0) > seconds) input['VisibilityTimeout'] = seconds;
}

function refusal({ status, code }: { status: number; code: string }): Forwarded {
  return json(status, { __type: `com.amazonaws.sqs#${code}`, message: 'injected' });
}

function json(status: number, body: unknown): Forwarded {
  return { status, body: JSON.stringify(body) };
}

function respond(response: http.ServerResponse, { status, body }: Forwarded): void {
  if (response.destroyed) return;
  response.writeHead(status, { 'content-type': CONTENT_TYPE, 'x-amzn-requestid': 'fault-proxy' }).end(body);
}
