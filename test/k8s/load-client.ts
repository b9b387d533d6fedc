import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Runs inside the cluster, so that it comes through the Service like any client: no imports but Node's own. Clients
 * place one order after the other; every second one keeps its connection, the others open one for each order, and so
 * notice a pod that no longer listens. Every answer is a line of JSON; status 0 is none. With `retryRefusedMs` a client whose
 * connection is refused tries again for so long, since nothing was sent, and says how often it did. Starts with a line
 * on standard input and ends with the next one, with the count of its lines as the last.
 */
type Settings = { url: string; clients: number; pauseMs: number; retryRefusedMs: number };
type Outcome = { status: number; detail?: string };

const RETRY_AFTER_MS = 50;
const settings = JSON.parse(process.argv[1] ?? '') as Settings;
const commands = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const stop = new AbortController();
let lines = 0;

await commands.next();
void commands.next().then(() => stop.abort());
await Promise.all(Array.from({ length: settings.clients }, client));
process.stdout.write(`${JSON.stringify({ lines })}\n`);
process.exit();

async function client(_: unknown, index: number): Promise<void> {
  const agent = new http.Agent({ keepAlive: index % 2 === 0, maxSockets: 1 });
  while (!stop.signal.aborted) {
    const orderId = randomUUID();
    const answer = await place(agent, orderId);
    process.stdout.write(`${JSON.stringify({ orderId, ...answer, at: Date.now() })}\n`);
    lines++;
    await sleep(settings.pauseMs, undefined, { signal: stop.signal }).catch(() => {});
  }
  agent.destroy();
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
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const options = { method: 'POST', agent, headers, timeout: 30_000 };
    const request = http.request(`${settings.url}/orders`, options, (response) => {
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
