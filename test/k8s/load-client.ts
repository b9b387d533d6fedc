import { randomUUID } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import http from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Runs inside the cluster, so that it comes through the Service like any client: no imports but Node's own. Each client
 * places an order every so often, one at a time, and makes up for what is late until the pace changes. Every second
 * client keeps its connection, the others open one for each order, and so notice a pod that no longer listens. Every
 * answer is a line of JSON; status 0 is none. With `retryRefusedMs` a client whose connection is refused tries again for
 * so long, since nothing was sent, and says how often it did.
 *
 * Starts with the first line on standard input, which says how many orders a second all clients place together, as do
 * those after it; ends with `stop`, and the count of its lines as the last.
 */
type Settings = { url: string; clients: number; retryRefusedMs: number };
type Outcome = { status: number; detail?: string };

const RETRY_AFTER_MS = 50;
/** Many lines at once: each write goes through the kubelet and the API server. */
const TELL_EVERY_MS = 250;
const settings = JSON.parse(process.argv[1] ?? '') as Settings;
const service = new URL(settings.url);
/** Of the Service, which stays: looked up once, or every new connection would cost a question to the cluster's DNS. */
const { address } = await lookup(service.hostname);
const stop = new AbortController();
let everyMs = 0;
let pacedAt = 0;
let clients: Promise<unknown> | undefined;
let lines = 0;
let untold = '';
setInterval(tell, TELL_EVERY_MS);

for await (const command of createInterface({ input: process.stdin })) {
  if (command === 'stop') break;
  everyMs = (settings.clients * 1_000) / Number(command);
  pacedAt = performance.now();
  clients ??= Promise.all(Array.from({ length: settings.clients }, client));
}
stop.abort();
await clients;
untold += `${JSON.stringify({ lines })}\n`;
tell();
process.exit();

function tell(): void {
  if (untold !== '') process.stdout.write(untold);
  untold = '';
}

async function client(_: unknown, index: number): Promise<void> {
  const agent = new http.Agent({ keepAlive: index % 2 === 0, maxSockets: 1 });
  for (let pace = 0, dueAt = 0; ; dueAt += everyMs) {
    if (pace !== pacedAt) {
      pace = pacedAt;
      // Not all at once.
      dueAt = Math.max(performance.now(), pacedAt + (everyMs * index) / settings.clients);
    }
    await wait(dueAt - performance.now());
    if (stop.signal.aborted) break;
    const orderId = randomUUID();
    const answer = await place(agent, orderId);
    untold += `${JSON.stringify({ orderId, ...answer, at: Date.now() })}\n`;
    lines++;
  }
  agent.destroy();
}

async function wait(ms: number): Promise<void> {
  await sleep(Math.max(ms, 0), undefined, { signal: stop.signal }).catch(() => {});
}

async function place(agent: http.Agent, orderId: string) {
  const giveUpAt = Date.now() + settings.retryRefusedMs;
  for (let refused = 0; ; refused++) {
    const startedAt = Date.now();
    const answer = await post(agent, orderId).catch((error): Outcome => {
      return { status: 0, detail: `${error.code}: ${error}` };
    });
    if (!answer.detail?.startsWith('ECONNREFUSED') || Date.now() >= giveUpAt)
      return { startedAt, refused, ...answer };
    await sleep(RETRY_AFTER_MS);
  }
}

function post(agent: http.Agent, orderId: string): Promise<Outcome> {
  const body = JSON.stringify({
    orderId,
    customerId: 'C-1001',
    items: [{ productId: 'SKU-1', name: 'CD', quantity: 2, unitPrice: 1499 }],
    currency: 'USD',
    totalAmount: 2998,
    createdAt: new Date().toISOString(),
  });
  const headers = {
    host: service.host,
    'content-type': 'application/json',
    'content-length': Buffer.byteLength(body),
  };
  return new Promise((resolve, reject) => {
    const target = { host: address, port: service.port, path: '/orders' };
    const options = { ...target, method: 'POST', agent, headers, timeout: 30_000 };
    const request = http.request(options, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('error', reject).on('end', () => {
        const status = response.statusCode ?? 0;
        resolve(status === 202 ? { status } : { status, detail: text });
      });
    });
    request.on('timeout', () => request.destroy(new Error('no answer within 30 s'))).on('error', reject);
    request.end(body);
  });
}
