import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { json } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { alert } from './alert.ts';

const DONE = { severity: 'info', text: 'v2 is deployed to staging' } as const;

async function startReceiver(status: number) {
  const received: unknown[] = [];
  const server = createServer(async (request, response) => {
    received.push(await json(request));
    response.writeHead(status).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, received };
}

async function send(url?: string): Promise<string[]> {
  const said: string[] = [];
  await alert(url, DONE, (line) => void said.push(line));
  return said;
}

test('alert, with a receiver, is posted and said', async () => {
  const { url, received } = await startReceiver(200);
  expect(await send(url)).toEqual(['info: v2 is deployed to staging']);
  expect(received).toEqual([DONE]);
});

test('alert, without a receiver, is said', async () => {
  expect(await send()).toEqual(['info: v2 is deployed to staging']);
});

test('alert, that is not taken, or whose receiver is away, changes nothing but a line', async () => {
  const { url } = await startReceiver(500);
  expect(await send(url)).toContain('the alert was not taken: 500');
  expect(await send('http://127.0.0.1:1')).toContainEqual(expect.stringContaining('the alert was not sent'));
});

test.each(['nonsense/s3cret', 'http://user:s3cret@127.0.0.1:1/'])(
  'alert, to a receiver whose URL is wrong (%s), keeps the URL, which is a secret',
  async (url) => {
    const said = (await send(url)).join();
    expect(said).toContain('the alert was not sent: ');
    expect(said).not.toContain('s3cret');
  },
);
