import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { createTestHttpApp, type TestHttpApp } from '../../testing/http-app.ts';
import { StartupError } from '../runtime/startup-error.ts';
import { ProblemError } from './problem.ts';
import { openPorts } from './server.ts';

const PUBLIC = { config: { access: 'public' } } as const;

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const POST_ECHO = 'POST /echo HTTP/1.1\r\nHost: x\r\n';
const loopback = { host: '127.0.0.1', port: 0, variable: 'TEST_PORT' };

describe('createHttpServer', () => {
  let test: TestHttpApp & {
    gate: { reached: Promise<() => void>; left: Promise<void> };
    clientErrors: unknown[];
  };
  beforeEach(async () => {
    const reached = Promise.withResolvers<() => void>();
    const left = Promise.withResolvers<void>();
    const gate = { reached: reached.promise, left: left.promise };
    test = { ...(await createTestHttpApp()), gate, clientErrors: [] };
    test.app.server.on('clientError', (error) => test.clientErrors.push(error));
    test.health.setAccepting(true);
    // Tells when a request is there and when its client has gone, and answers it when told to.
    test.app.get('/gate', PUBLIC, ({ raw }) => {
      raw.socket.once('close', () => left.resolve());
      return new Promise((resolve) => reached.resolve(() => resolve({ passed: true })));
    });
    test.app.post(
      '/echo',
      { ...PUBLIC, schema: { body: z.strictObject({ name: z.string() }) } },
      async ({ body }) => body,
    );
    test.app.post('/upload', { ...PUBLIC, bodyLimit: 600 * 1_024 }, async () => ({ done: true }));
    test.app.get(
      '/things/:id',
      { ...PUBLIC, schema: { querystring: z.object({ limit: z.coerce.number().int().default(10) }) } },
      async ({ query }) => query,
    );
    test.app.get('/throw/:what', PUBLIC, async (request) => {
      const { what } = request.params as { what: string };
      if (what === 'problem') {
        throw new ProblemError('queue-unavailable', 'try again');
      }
      throw new Error('password is hunter2');
    });
  });
  afterEach(() => {
    vi.useRealTimers();
    return test.app.close();
  });

  const post = (
    payload: string | object,
    headers: Record<string, string> = { 'content-type': 'application/json' },
  ) => test.app.inject({ method: 'POST', url: '/echo', payload, headers });

  const postBytes = (payload: Buffer) =>
    test.app.inject({
      method: 'POST',
      url: '/echo',
      payload,
      headers: { 'content-type': 'application/json' },
    });

  it.each<
    [
      string,
      () => Promise<{ statusCode: number; headers: Record<string, unknown>; json: () => unknown }>,
      number,
      string,
    ]
  >([
    ['a body that is no JSON', () => post('{"name":'), 400, 'malformed'],
    ['an empty body', () => post(''), 400, 'malformed'],
    ['a body with __proto__', () => post('{"__proto__":{"admin":true},"name":"x"}'), 400, 'malformed'],
    ['a field of the wrong type', () => post({ name: 1 }), 400, 'validation'],
    ['a body of 500 levels', () => post(`${'['.repeat(500)}${']'.repeat(500)}`), 400, 'validation'],
    ['a body above the limit', () => post({ name: 'x'.repeat(1_024) }), 413, 'too-large'],
    ['plain text', () => post('name', { 'content-type': 'text/plain' }), 415, 'media-type'],
    [
      'a form',
      () => post('name=x', { 'content-type': 'application/x-www-form-urlencoded' }),
      415,
      'media-type',
    ],
    ['a wrong query', () => test.app.inject('/things/1?limit=many'), 400, 'validation'],
    ['an unknown path', () => test.app.inject('/nowhere'), 404, 'not-found'],
    [
      'a method that the path does not take',
      () => test.app.inject({ method: 'DELETE', url: '/echo' }),
      405,
      'method-not-allowed',
    ],
    [
      'a method that has a body but no route',
      () => test.app.inject({ method: 'QUERY' as 'GET', url: '/echo' }),
      405,
      'method-not-allowed',
    ],
    [
      'a packed body',
      () =>
        test.app.inject({
          method: 'POST',
          url: '/echo',
          headers: { 'content-encoding': 'gzip' },
          payload: {},
        }),
      415,
      'content-encoding',
    ],
    [
      'a body that is not UTF-8',
      () => postBytes(Buffer.from('{"name":"Caf\xe9"}', 'latin1')),
      400,
      'not-utf-8',
    ],
    ['a body of 100,000 levels', () => post(`${'['.repeat(90_000)}${']'.repeat(90_000)}`), 413, 'too-large'],
    [
      'a body in UTF-16',
      () => post({ name: 'x' }, { 'content-type': 'application/json; charset=utf-16' }),
      415,
      'charset',
    ],
    [
      'a body in ISO 8859-1',
      () => post({ name: 'x' }, { 'content-type': 'application/json;CHARSET="iso-8859-1"' }),
      415,
      'charset',
    ],
    [
      'a method that a path with a parameter does not take',
      () => test.app.inject({ method: 'DELETE', url: '/things/1' }),
      405,
      'method-not-allowed',
    ],
    ['two hosts', () => test.app.inject({ url: '/livez', headers: { host: 'a, b' } }), 400, 'two-hosts'],
    ['a path that cannot be decoded', () => test.app.inject('/things/%zz'), 400, 'malformed'],
    [
      'a path parameter without end',
      () => test.app.inject(`/things/${'x'.repeat(300)}`),
      414,
      'url-too-long',
    ],
    ['an error of ours', () => test.app.inject('/throw/problem'), 503, 'queue-unavailable'],
    ['an unexpected error', () => test.app.inject('/throw/error'), 500, 'internal'],
  ])('server, of %s, answers problem+json', async (_what, request, status, kind) => {
    const answer = await request();
    expect(answer.statusCode).toBe(status);
    expect(answer.headers['content-type']).toBe('application/problem+json');
    expect(answer.json()).toMatchObject({ type: `/problems/${kind}`, status, title: expect.any(String) });
  });

  it('server, given a method that the path does not take, lists the methods it supports', async () => {
    expect((await test.app.inject({ method: 'DELETE', url: '/echo' })).headers['allow']).toBe('POST');
  });

  it('server, given a method that a path with a parameter does not take, lists the methods it supports', async () => {
    const answer = await test.app.inject({ method: 'DELETE', url: '/things/1' });
    expect(answer.headers['allow']).toBe('GET, HEAD');
  });

  it.each([
    ['with a byte order mark', '\uFEFF{"name":"x"}', {}],
    ['that says UTF-8', '{"name":"x"}', { 'content-type': 'application/json; charset=UTF-8' }],
    ['that says utf8 in quotes', '{"name":"x"}', { 'content-type': 'application/json;charset="utf8";v=1' }],
    ['of Identity', '{"name":"x"}', { 'content-encoding': 'Identity' }],
  ])('server, given a body %s, reads it', async (_what, payload, headers) => {
    const answer = await post(payload, { 'content-type': 'application/json', ...headers });
    expect(answer.json()).toEqual({ name: 'x' });
  });

  it('server, given a web page from elsewhere, lets it read nothing', async () => {
    const headers = { origin: 'https://shop.example' };
    const answer = await test.app.inject({ url: '/livez', headers });
    expect(answer.headers).not.toHaveProperty('access-control-allow-origin');
    const preflight = { method: 'OPTIONS' as const, url: '/echo', headers };
    expect((await test.app.inject(preflight)).statusCode).toBe(405);
  });

  it('server, given a web page from an allowed origin, lets it ask and read, errors too', async () => {
    const { app } = await createTestHttpApp({
      corsAllowedOrigins: ['https://shop.example', 'https://b.example'],
    });
    app.post('/echo', PUBLIC, async () => ({}));
    const origin = 'https://shop.example';
    const preflight = await app.inject({
      method: 'OPTIONS',
      url: '/echo',
      headers: { origin, 'access-control-request-method': 'POST' },
    });
    expect(preflight.statusCode).toBe(204);
    expect(preflight.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-allow-methods': 'GET, HEAD, POST',
      'access-control-allow-headers': 'authorization, content-type, idempotency-key, traceparent, x-api-key',
    });
    const refused = await app.inject({
      method: 'POST',
      url: '/echo',
      payload: '{',
      headers: { origin, 'content-type': 'application/json' },
    });
    expect(refused.statusCode).toBe(400);
    expect(refused.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-expose-headers': 'location, ratelimit, ratelimit-policy, retry-after, www-authenticate',
    });
    const other = await app.inject({ url: '/livez', headers: { origin: 'https://evil.example' } });
    expect(other.headers).not.toHaveProperty('access-control-allow-origin');
    expect((await app.inject({ method: 'DELETE', url: '/echo' })).headers['allow']).toBe('POST');
    await app.close();
  });

  describe('with room for 1 MiB', () => {
    const KiB = 1_024;
    let waiting: (() => void)[];
    beforeEach(() => {
      waiting = [];
      test.app.post('/slow', { ...PUBLIC, bodyLimit: 400 * KiB }, async () => {
        await new Promise<void>((resolve) => waiting.push(resolve));
        return { done: true };
      });
      test.app.get('/large', { ...PUBLIC, onRequest: test.app.takeBytes(400 * KiB) }, async () => {
        await new Promise<void>((resolve) => waiting.push(resolve));
        return 'x'.repeat(900 * KiB);
      });
    });
    const upload = (bytes: number) =>
      test.app.inject({
        method: 'POST',
        url: '/slow',
        payload: `{}${' '.repeat(bytes - 2)}`,
        headers: { 'content-type': 'application/json' },
      });
    const atWork = (count: number) =>
      vi.waitFor(() => expect(waiting).toHaveLength(count), { timeout: 30_000 });

    it('server, of bodies that do not fit, answers 429 with Retry-After until one of them is answered', async () => {
      const first = [upload(400 * KiB), upload(400 * KiB)];
      await atWork(2);
      const refused = await upload(400 * KiB);
      expect(refused.statusCode).toBe(429);
      expect(refused.json()).toMatchObject({ type: '/problems/busy' });
      expect(refused.headers['retry-after']).toBe('1');
      const small = upload(100 * KiB);
      await atWork(3);
      waiting[0]?.();
      expect((await first[0])?.json()).toEqual({ done: true });
      const next = upload(400 * KiB);
      await atWork(4);
      for (const answer of waiting) answer();
      expect((await next).statusCode).toBe(200);
      await Promise.all([...first, small]);
    });

    it('server, given a body above the limit, answers 413, room or not', async () => {
      expect((await upload(2_000 * KiB)).statusCode).toBe(413);
    });

    it('server, whose client leaves in the middle of a body, does not count that as its own failure', async () => {
      const answered = Promise.withResolvers<unknown>();
      test.app.addHook('onError', async (_request, _reply, error) => answered.resolve(error));
      await test.app.listen({ host: '127.0.0.1', port: 0 });
      const socket = connect((test.app.server.address() as AddressInfo).port, '127.0.0.1');
      test.app.server.once('request', () => socket.destroy());
      socket.write(`${POST_ECHO}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{`);
      expect(await answered.promise).toMatchObject({ problem: { status: 400 } });
      expect(test.lines.filter(({ level }) => level === 'ERROR')).toEqual([]);
    });

    it('server, of look-ups that do not fit, answers 429, before and after it knows their size', async () => {
      const [first, second] = [test.app.inject('/large'), test.app.inject('/large')];
      await atWork(2);
      expect((await test.app.inject('/large')).statusCode).toBe(429);
      waiting[0]?.();
      // 900 KiB do not fit beside the other's 400.
      expect((await first).statusCode).toBe(429);
      waiting[1]?.();
      expect((await second).statusCode).toBe(200);
    });
  });

  it('server, given a wrong field, points at it', async () => {
    expect((await post({ name: 1, extra: 2 })).json()).toMatchObject({
      errors: [{ pointer: '/name' }, { pointer: '', detail: 'Unrecognized key: "extra"' }],
    });
    const query = await test.app.inject('/things/1?limit=many');
    expect(query.json()).toMatchObject({ errors: [{ pointer: '/querystring/limit' }] });
  });

  it('server, given an unexpected error, tells the log, not the client', async () => {
    const answer = await test.app.inject('/throw/error');
    expect(answer.body).not.toContain('hunter2');
    const line = test.lines.find(({ message }) => message === 'request failed');
    expect(line).toMatchObject({
      level: 'ERROR',
      traceId: answer.json().traceId,
      err: { message: 'password is hunter2' },
    });
  });

  it('server, given an error that says when to try again, sends Retry-After', async () => {
    expect((await test.app.inject('/throw/problem')).headers['retry-after']).toBe('5');
  });

  it('server, given a request with a traceparent, continues its trace in problem and log', async () => {
    const headers = { traceparent: `00-${TRACE_ID}-00f067aa0ba902b7-01` };
    const answer = await test.app.inject({ url: '/nowhere', headers });
    expect(answer.json().traceId).toBe(TRACE_ID);
    expect(test.lines.find(({ message }) => message === 'answered')).toMatchObject({
      level: 'DEBUG',
      traceId: TRACE_ID,
      status: 404,
    });
  });

  it('server, of requests, measures them by route, never by path', async () => {
    await test.app.inject('/things/1');
    await test.app.inject('/things/2');
    await test.app.inject('/nowhere');
    const { values } = await test.metrics.httpRequestDuration.get();
    const counts = values
      .filter(({ metricName }) => metricName?.endsWith('_count'))
      .map(({ labels, value }) => [labels.route, labels.status, value]);
    expect(counts).toEqual([
      ['/things/:id', 200, 2],
      ['unknown', 404, 1],
    ]);
  });

  it('server, asked for its API, answers OpenAPI 3.1 and a page', async () => {
    const api = (await test.app.inject('/openapi.json')).json();
    expect(api).toMatchObject({ openapi: '3.1.0', info: { title: 'order-test', version: '1.2.3' } });
    expect(api.info.description).toMatch(/^A service under test\.\n\n\*\*Errors\*\* are /);
    expect(api.tags.map(({ name }: { name: string }) => name)).toEqual(['orders', 'operations']);
    expect(Object.keys(api.paths)).toContain('/echo');
    expect(Object.keys(api.paths)).not.toContain('/openapi.json');
    expect((await test.app.inject('/docs/')).headers['content-type']).toContain('text/html');
  });

  describe('on a port', () => {
    const sockets: Socket[] = [];
    beforeEach(async () => {
      await test.app.listen({ host: '127.0.0.1', port: 0 });
    });
    afterEach(() => {
      for (const socket of sockets.splice(0)) socket.destroy();
    });

    const open = async () => {
      const socket = connect((test.app.server.address() as AddressInfo).port, '127.0.0.1');
      sockets.push(socket);
      socket.setEncoding('utf8').on('error', () => {});
      await once(socket, 'connect');
      return socket;
    };
    /** All that the server says on a connection until it closes it. */
    const readAll = async (socket: Socket) => (await socket.toArray()).join('');
    const get = (path: string) => `GET ${path} HTTP/1.1\r\nHost: test\r\n\r\n`;

    it.each([
      ['no host', 'GET /livez HTTP/1.1\r\nConnection: close\r\n\r\n', 400, 'no-host'],
      [
        'an odd expectation',
        'GET /livez HTTP/1.1\r\nHost: test\r\nExpect: more\r\nConnection: close\r\n\r\n',
        417,
        'expectation',
      ],
      [
        'a header above the limit',
        `GET / HTTP/1.1\r\nHost: test\r\nX-Big: ${'x'.repeat(40_000)}\r\n\r\n`,
        431,
        'header-too-large',
      ],
      ['no HTTP at all', 'EHLO test\r\n\r\n', 400, 'malformed'],
      [
        'two hosts',
        'GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n',
        400,
        'two-hosts',
      ],
      [
        'a chunk without a length',
        'POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n',
        400,
        'malformed',
      ],
    ])('server, of %s, answers problem+json and closes', async (_what, bytes, status, kind) => {
      const socket = await open();
      socket.write(bytes);
      const [head = '', body = ''] = (await readAll(socket)).split('\r\n\r\n');
      expect(head).toContain(`HTTP/1.1 ${status} `);
      expect(head).toContain('content-type: application/problem+json');
      expect(JSON.parse(body)).toMatchObject({ status, type: `/problems/${kind}` });
    });

    it.each([
      ['two bytes too many', 'xx'],
      ['a request that is none', 'EHLO test\r\n\r\n'],
      ['a request that is none, after one that is', `${get('/livez')}EHLO test\r\n\r\n`],
    ])(
      'server, given a request and behind it %s, answers the request, not with 400, and closes',
      async (_what, rest) => {
        const socket = await open();
        socket.write(`${get('/gate')}${rest}`);
        const answerGate = await test.gate.reached;
        const broken = once(test.app.server, 'clientError');
        if (test.clientErrors.length === 0) await broken;
        answerGate();
        const text = await readAll(socket);
        expect(text).toMatch(/^HTTP\/1\.1 200 OK\r\n.*\{"passed":true\}/s);
        expect(text).not.toContain('400');
      },
    );

    it('server, of uploads without a length whose clients leave, reckons the most they may be, and only while they last', async () => {
      const begin = async () => {
        const arrived = once(test.app.server, 'request');
        const socket = await open();
        socket.write(
          'POST /upload HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n',
        );
        await arrived;
        return socket;
      };
      const first = await begin();
      expect(String(await once(await begin(), 'data'))).toContain('HTTP/1.1 429 ');
      first.destroy();
      await vi.waitFor(
        async () => {
          const next = await begin();
          next.write('0\r\n\r\n');
          expect(String(await once(next, 'data'))).toContain('HTTP/1.1 200 ');
        },
        { timeout: 30_000 },
      );
    });

    it.each([1, 100])('server, given a body in %i bytes at a time, reads it whole', async (size) => {
      const body = JSON.stringify({ name: '열쇠'.repeat(50) });
      const chunks = Buffer.from(body);
      const socket = await open();
      socket.write(
        'POST /echo HTTP/1.1\r\nHost: test\r\nConnection: close\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n',
      );
      for (let at = 0; at < chunks.length; at += size) {
        const chunk = chunks.subarray(at, at + size);
        socket.write(`${chunk.length.toString(16)}\r\n`);
        socket.write(chunk);
        socket.write('\r\n');
      }
      socket.write('0\r\n\r\n');
      expect(await readAll(socket)).toContain(body);
    });

    it('server, given more connections than it may have, answers those beyond with 503, liveness apart', async () => {
      const few = await createTestHttpApp({ maxConnections: 2 });
      await few.app.listen({ host: '127.0.0.1', port: 0 });
      const { port } = few.app.server.address() as AddressInfo;
      const [first] = await Promise.all(
        [1, 2].map(async () => {
          const socket = connect(port, '127.0.0.1').setEncoding('utf8');
          sockets.push(socket);
          await once(few.app.server, 'connection');
          return socket;
        }),
      );
      const ask = async (path: string) => {
        const socket = connect(port, '127.0.0.1').setEncoding('utf8');
        socket.write(get(path).replace('\r\n\r\n', '\r\nConnection: close\r\n\r\n'));
        return readAll(socket);
      };
      expect(await ask('/metrics')).toMatch(/^HTTP\/1\.1 503 .*retry-after: 5\r\n.*too-many-connections/is);
      expect(await ask('/livez')).toMatch(/^HTTP\/1\.1 200 /);
      const gone = once(first as Socket, 'close');
      first?.destroy();
      await gone;
      await vi.waitFor(async () => expect(await ask('/metrics')).toMatch(/^HTTP\/1\.1 200 /), {
        timeout: 30_000,
      });
      for (const socket of sockets) socket.destroy();
      await few.app.close();
    });

    it('close, with an idle connection, closes it and resolves', async () => {
      const socket = await open();
      socket.write(get('/livez'));
      const [first] = await once(socket, 'data');
      expect(first).toContain('Connection: keep-alive');
      await test.app.close();
      expect(await readAll(socket)).toBe('');
    });

    it('server, that no longer accepts, still answers, and closes the connection', async () => {
      const socket = await open();
      socket.write(get('/livez'));
      expect(String(await once(socket, 'data'))).toContain('Connection: keep-alive');
      test.health.setAccepting(false);
      socket.write(get('/livez'));
      const answer = await readAll(socket);
      expect(answer).toContain('HTTP/1.1 200 OK');
      expect(answer).toContain('connection: close');
    });

    it('server, given an old connection, closes it with the next answer', async () => {
      const old = await createTestHttpApp({ connectionMaxAgeMs: 0 });
      old.health.setAccepting(true);
      await old.app.listen({ host: '127.0.0.1', port: 0 });
      const socket = connect((old.app.server.address() as AddressInfo).port, '127.0.0.1');
      socket.setEncoding('utf8').write(get('/livez'));
      const answer = await readAll(socket);
      expect(answer).toContain('HTTP/1.1 200 OK');
      expect(answer).toContain('connection: close');
      await old.app.close();
    });

    it('close, with a connection that never brought a request, closes it and resolves', async () => {
      const socket = await open();
      const closed = once(socket.resume(), 'close');
      await test.app.close();
      await closed;
    });

    describe('with a request whose body is on its way', () => {
      const [begin, end] = ['{"name":', '"late"}'];
      let upload: Socket;
      beforeEach(async () => {
        upload = await open();
        const arrived = once(test.app.server, 'request');
        upload.write(
          `POST /echo HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n${begin}`,
        );
        await arrived;
      });

      it('close, when the rest comes meanwhile, answers the request', async () => {
        const closing = test.app.close();
        while (test.app.server.listening) await new Promise(setImmediate);
        upload.write(end);
        expect(await readAll(upload)).toContain('{"name":"late"}');
        await closing;
      });

      it('close, when the rest does not come, ends the request and resolves', async () => {
        await test.app.close();
        expect(await readAll(upload)).toBe('');
        expect(test.lines.filter(({ level }) => level === 'ERROR')).toEqual([]);
      });
    });

    describe('with a request under way', () => {
      let answerGate: () => void;
      let underWay: Socket;
      beforeEach(async () => {
        underWay = await open();
        underWay.write(get('/gate'));
        answerGate = await test.gate.reached;
      });
      /** Begins to close. It has begun when the server no longer listens. */
      const beginClose = async () => {
        const ended = vi.fn();
        const closing = test.app.close().then(ended);
        while (test.app.server.listening) await new Promise(setImmediate);
        return { closing, ended };
      };

      it('close, answers the request, closes its connection, and only then resolves', async () => {
        vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] });
        const { closing, ended } = await beginClose();
        vi.advanceTimersByTime(60_000);
        expect(ended).not.toHaveBeenCalled();
        answerGate();
        const answer = await readAll(underWay);
        expect(answer).toContain('HTTP/1.1 200 OK');
        expect(answer).toContain('connection: close');
        expect(answer).toContain('{"passed":true}');
        await closing;
        expect(vi.getTimerCount()).toBe(0);
      });

      it('close, when the client of the request has gone, does not wait for anything', async () => {
        await open();
        underWay.destroy();
        await test.gate.left;
        answerGate();
        await test.app.close();
      });

      it('close, when another request comes in whole meanwhile, answers that with 200, not 503', async () => {
        const late = await open();
        const [begin, end] = ['GET /livez HTTP/1.1\r\n', 'Host: test\r\n\r\n'];
        late.write(begin);
        const { closing } = await beginClose();
        late.write(end);
        const answer = await readAll(late);
        expect(answer).toContain('HTTP/1.1 200 OK');
        expect(answer).toContain('connection: close');
        answerGate();
        await closing;
      });
    });
  });
});

describe('headers for browsers', () => {
  let test: TestHttpApp;
  beforeEach(async () => {
    test = await createTestHttpApp();
  });
  afterEach(() => test.app.close());

  it.each(['/livez', '/nowhere', '/docs/', '/openapi.json'])('%s is taken for nothing else', async (url) => {
    expect((await test.app.inject(url)).headers['x-content-type-options']).toBe('nosniff');
  });

  it.each(['/docs/', '/docs', '/docs/static/index.html'])(
    '%s runs scripts of its own only, in no frame',
    async (url) => {
      const { headers } = await test.app.inject(url);
      const policy = String(headers['content-security-policy']).split(';');
      expect(policy).toEqual(
        expect.arrayContaining([
          "default-src 'self'",
          "script-src 'self'",
          "object-src 'none'",
          "frame-ancestors 'none'",
        ]),
      );
      expect(policy).not.toContain('upgrade-insecure-requests');
      expect(headers).toMatchObject({ 'x-frame-options': 'DENY', 'referrer-policy': 'no-referrer' });
    },
  );

  it('the page of the docs has nothing that its policy forbids, and asks nobody else', async () => {
    const page = (await test.app.inject('/docs/')).body;
    const script = (await test.app.inject('/docs/static/swagger-initializer.js')).body;
    expect(page).not.toMatch(/<script(?![^>]* src=)|\son\w+=|javascript:/);
    const sources = [...page.matchAll(/(?:src|href)="([^"]*)"/g)].map(([, source]) => source);
    expect(sources.length).toBeGreaterThan(3);
    for (const source of sources) expect(source).toMatch(/^\.?\//);
    expect(script).toContain('"validatorUrl":null');
  });
});

describe('openPorts', () => {
  const portOf = (url: string | undefined) => Number(new URL(url ?? '').port);
  const statusOf = async (url: string) => (await fetch(url)).status;

  it('openPorts, on a port that is taken, says which and how to choose another', async () => {
    const [first, second] = [await createTestHttpApp(), await createTestHttpApp()];
    const { url, close } = await openPorts(first.app, first.options, loopback);
    try {
      const failure = openPorts(second.app, second.options, { ...loopback, port: portOf(url) });
      await expect(failure).rejects.toThrow(StartupError);
      await expect(failure).rejects.toThrow(
        `port ${portOf(url)} on 127.0.0.1 is taken by another process: set TEST_PORT or HOST`,
      );
    } finally {
      await close();
    }
  });

  it('openPorts, on an address of another machine, reports it', async () => {
    const { app, options } = await createTestHttpApp();
    await expect(openPorts(app, options, { ...loopback, host: '192.0.2.1' })).rejects.toThrow(
      'port 0 on 192.0.2.1 cannot be listened on (EADDRNOTAVAIL): set TEST_PORT or HOST',
    );
  });

  it('openPorts, without a management port, opens one with everything', async () => {
    const { app, options } = await createTestHttpApp();
    const { url, managementUrl, close } = await openPorts(app, options, loopback);
    try {
      expect(managementUrl).toBeUndefined();
      expect(await statusOf(`${url}/metrics`)).toBe(200);
    } finally {
      await close();
    }
  });

  it("openPorts, with a management port, moves Prometheus's pages and nothing else", async () => {
    const { app, options } = await createTestHttpApp({ managementPort: 0 });
    const { url, managementUrl, close } = await openPorts(app, options, loopback);
    try {
      for (const path of ['/metrics', '/actuator/prometheus']) {
        expect([path, await statusOf(url + path)]).toEqual([path, 404]);
        const moved = await fetch(managementUrl + path);
        expect([path, moved.status, await moved.text()]).toEqual([
          path,
          200,
          expect.stringContaining('process_cpu_seconds_total'),
        ]);
      }
      for (const path of [
        '/livez',
        '/actuator',
        '/actuator/health',
        '/actuator/info',
        '/openapi.json',
        '/docs',
      ])
        expect([path, await statusOf(managementUrl + path)]).toEqual([path, 404]);
    } finally {
      await close();
    }
  });

  it('openPorts, on a management port that is taken, says so and closes what it opened', async () => {
    const [first, second] = [await createTestHttpApp(), await createTestHttpApp()];
    const { url, close } = await openPorts(first.app, first.options, loopback);
    try {
      const options = { ...second.options, managementPort: portOf(url) };
      await expect(openPorts(second.app, options, loopback)).rejects.toThrow(
        `port ${portOf(url)} on 127.0.0.1 is taken by another process: set MANAGEMENT_PORT or HOST`,
      );
      expect(second.app.server.listening).toBe(false);
    } finally {
      await close();
    }
  });

  it('close, while a request is under way, leaves the metrics to be read until it is answered', async () => {
    const { app, options } = await createTestHttpApp({ managementPort: 0 });
    const gate = Promise.withResolvers<object>();
    const reached = Promise.withResolvers<void>();
    app.get('/gate', PUBLIC, () => {
      reached.resolve();
      return gate.promise;
    });
    const { url, managementUrl, close } = await openPorts(app, options, loopback);
    const answer = fetch(`${url}/gate`);
    await reached.promise;
    const closed = close();
    await vi.waitFor(() => expect(app.server.listening).toBe(false), { timeout: 30_000 });
    expect(await statusOf(`${managementUrl}/metrics`)).toBe(200);
    gate.resolve({});
    expect((await answer).status).toBe(200);
    await closed;
    await expect(fetch(`${managementUrl}/metrics`)).rejects.toThrow();
  });
});
