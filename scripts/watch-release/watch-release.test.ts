import { execFile } from 'node:child_process';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, expect, it } from 'vitest';
import { LIMITS } from './limits.ts';
import { ask } from './prometheus.ts';

const servers: Server[] = [];
afterEach(() => {
  for (const server of servers.splice(0)) server.close();
});

type Request = { query: string; authorization: string | undefined };

/** Answers as Prometheus does, with one value, none, or several; or with the text that `answer` gives. */
async function startPrometheus(answer: (request: Request) => string | number[]) {
  const requests: Request[] = [];
  const server = createServer(async (request, response) => {
    const query = new URLSearchParams(await text(request)).get('query') ?? '';
    const seen: Request = { query, authorization: request.headers.authorization };
    requests.push(seen);
    const body = answer(seen);
    const result = (values: number[]) =>
      values.map((value) => ({ metric: {}, value: [1_700_000_000, String(value)] }));
    const answered = (values: number[]) =>
      JSON.stringify({ status: 'success', data: { resultType: 'vector', result: result(values) } });
    response.end(typeof body === 'string' ? body : answered(body));
  });
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, requests };
}

it.each<[string, string | number[], unknown]>([
  ['one value', [0.25], 0.25],
  ['no value', [], undefined],
  ['a share of nothing', [Number.NaN], undefined],
  ['several values', [1, 2], new Error('2 values, where one is expected')],
  [
    'an error',
    '{"status":"error","errorType":"bad_data","error":"parse error"}',
    /Prometheus answers 200: parse error/,
  ],
  ['a page that is no JSON', '<html>', /Prometheus does not answer/],
])('ask, answered with %s, gives it', async (_, answer, expected) => {
  const { url, requests } = await startPrometheus(() => answer);
  const figure = await ask({ url: `${url}/`, token: 'secret' }, 'sum(x{y="z"})');
  if (expected instanceof RegExp) expect((figure as Error).message).toMatch(expected);
  else expect(figure).toEqual(expected);
  expect(requests).toEqual([{ query: 'sum(x{y="z"})', authorization: 'Bearer secret' }]);
});

it('ask, of a Prometheus that is not there, gives the reason', async () => {
  const { url } = await startPrometheus(() => []);
  for (const server of servers) server.close();
  expect(await ask({ url }, 'x')).toBeInstanceOf(Error);
});

it('ask, of a Prometheus that hangs, gives up', async () => {
  const server = createServer(() => {});
  servers.push(server);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  expect(await ask({ url, timeoutMs: 50 }, 'x')).toBeInstanceOf(Error);
  server.closeAllConnections();
});

/** Runs the program as the pipeline does, and gives its exit status and what it printed. */
function watch(PROMETHEUS_URL: string, ...args: string[]) {
  const script = path.join(import.meta.dirname, '../watch-release.ts');
  const env = { ...process.env, PROMETHEUS_URL };
  return new Promise<{ status: unknown; output: string }>((resolve) => {
    execFile(process.execPath, [script, '--every=0.01', ...args], { env }, (error, stdout, stderr) => {
      resolve({ status: error ? error.code : 0, output: stdout + stderr });
    });
  });
}

/** What is just allowed. */
function allowed(asked: string): number[] {
  const query = asked
    .replace(/namespace="[^"]*"/g, 'namespace="$namespace"')
    .replace(/offset \d+m/g, 'offset $before');
  const limit = LIMITS.find((limit) => limit.query === query);
  return [limit?.min ?? limit?.max ?? Number.NaN];
}

it('watch-release, of figures within their limits, ends with 0', async () => {
  const { url, requests } = await startPrometheus(({ query }) => allowed(query));
  const { status, output } = await watch(url, '--minutes=0', '--namespace=staging');
  expect({ status, output }).toMatchObject({ status: 0, output: expect.stringContaining('look 1: stays') });
  expect(requests).toHaveLength(LIMITS.length);
  expect(requests.every(({ query }) => query.includes('namespace="staging"') && !query.includes('$'))).toBe(
    true,
  );
});

it('watch-release, of a share of failed requests that stays high, ends with 1 and names it', async () => {
  const { url } = await startPrometheus(({ query }) => (query.includes('5..') ? [0.5] : allowed(query)));
  const { status, output } = await watch(url, '--minutes=30');
  expect(status).toBe(1);
  expect(output).toMatch(
    /look 3: goes\n {2}share of requests for orders answered with 5xx: 50 %; must be at most 1 %/,
  );
});

it('watch-release, in doubt when its time is over, looks on', async () => {
  let failures = 0;
  const { url } = await startPrometheus(({ query }) => {
    if (!query.includes('5..')) return allowed(query);
    failures += 1;
    return [failures <= 2 ? 0.5 : 0];
  });
  const { status, output } = await watch(url, '--minutes=0');
  expect(status).toBe(0);
  expect(output).toContain('look 3: stays');
});

it('watch-release, without a Prometheus, ends with 1: what nobody sees cannot stay', async () => {
  const { url } = await startPrometheus(() => []);
  for (const server of servers) server.close();
  expect(await watch(url)).toMatchObject({ status: 1, output: expect.stringContaining('look 10: goes') });
});

it('watch-release, called wrongly, says how', async () => {
  const wrong = [['--minutes=soon'], ['--namespace="}'], ['--every=0'], ['--unknown']];
  const answers = await Promise.all([
    watch(''),
    ...wrong.map((args) => watch('http://127.0.0.1:1', ...args)),
  ]);
  for (const answer of answers) {
    expect(answer).toMatchObject({ status: 2, output: expect.stringContaining('usage:') });
  }
});
