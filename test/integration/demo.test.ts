import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ListQueuesCommand } from '@aws-sdk/client-sqs';
import { expect, it, onTestFinished } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { sqsClient } from '../support/backends.ts';
import { startPair } from '../support/pair.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

const order = (orderId?: string) => ({
  ...(orderId === undefined ? {} : { orderId }),
  customerId: 'C-1001',
  items: [{ productId: 'SKU-1', name: 'CD', quantity: 2, unitPrice: 1499 }],
  currency: 'USD',
  totalAmount: 2998,
  createdAt: '2026-11-22T09:00:00Z',
});

async function ordersFile(lines: unknown[]): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'demo-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = path.join(folder, 'orders.ndjson');
  await writeFile(file, lines.map((line) => `${JSON.stringify(line)}\n`).join(''));
  return file;
}

function demo(
  file: string,
  env: NodeJS.ProcessEnv,
): Promise<{ status: unknown; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      ['dev/demo.ts', `--file=${file}`],
      { cwd: ROOT, env: { ...process.env, ...env }, maxBuffer: 1e8 },
      (error, stdout, stderr) => resolve({ status: error ? error.code : 0, stdout, stderr }),
    );
  });
}

const portOf = (url: string) => new URL(url).port;

it('demo, of a file with lines that are no orders, counts right, also the second time, and only on its own emulator', async () => {
  await using pair = await startPair();
  const another = await startEmulator({ port: 0 });
  onTestFinished(() => another.stop());
  const env = {
    EMULATOR_PORT: portOf(pair.endpoint),
    PRODUCER_PORT: portOf(pair.producerUrl),
    CONSUMER_PORT: portOf(pair.consumerUrl),
    AWS_ENDPOINT_URL_SQS: another.endpoint,
  };
  const file = await ordersFile([
    order(),
    null,
    'text',
    order('no-uuid'),
    { ...order(), metadata: { note: 'x'.repeat(5_000_000) } },
    order('0190f3a4-0000-7000-8000-000000000001'),
  ]);
  const first = await demo(file, env);
  expect(first.stdout).toContain('read=6 accepted=2 stored=2 duplicates=0 deadLettered=0');
  expect(first.status).toBe(0);
  expect(first.stderr).toContain('line 2: no order, but null');
  expect(first.stderr).toContain('line 3: no order, but "text"');
  expect(first.stderr.length).toBeLessThan(10_000);
  const second = await demo(file, env);
  expect(second.stdout).toContain('read=6 accepted=2 stored=0 duplicates=2 deadLettered=0');

  const client = sqsClient({ AWS_ENDPOINT_URL: another.endpoint });
  expect((await client.send(new ListQueuesCommand({}))).QueueUrls ?? []).toEqual([]);
  client.destroy();
});

it('demo, of a file without orders, fails: nothing was tried', async () => {
  await using pair = await startPair();
  const env = {
    EMULATOR_PORT: portOf(pair.endpoint),
    PRODUCER_PORT: portOf(pair.producerUrl),
    CONSUMER_PORT: portOf(pair.consumerUrl),
  };
  const { status, stdout } = await demo(await ordersFile([]), env);
  expect(stdout).toContain('read=0 accepted=0');
  expect(status).toBe(1);
});

it('demo, where a port takes connections and says nothing, says who has it', async () => {
  const silent = net.createServer((socket) => socket.resume()).listen(0, '127.0.0.1');
  await new Promise((resolve) => silent.once('listening', resolve));
  onTestFinished(() => void silent.close());
  const port = String((silent.address() as net.AddressInfo).port);
  const env = { EMULATOR_PORT: '0', CONSUMER_PORT: port, PRODUCER_PORT: '0' };
  const { status, stderr } = await demo(await ordersFile([order()]), env);
  expect(status).toBe(1);
  expect(stderr).toContain(`port ${port} of the consumer is taken`);
});
