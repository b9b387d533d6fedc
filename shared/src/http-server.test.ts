import { once } from 'node:events';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { z } from 'zod';
import { createTestHttpApp, type TestHttpApp } from '../testing/http-app.ts';
import { listen } from './http-server.ts';
import { createProblem, ProblemError } from './problem.ts';
import { StartupError } from './startup-error.ts';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const loopback = { host: '127.0.0.1', port: 0, variable: 'TEST_PORT' };

describe('createHttpServer', () => {
  let test: TestHttpApp & { gate: { reached: Promise<() => void>; left: Promise<void> } };
  beforeEach(async () => {
    const reached = Promise.withResolvers<() => void>();
    const left = Promise.withResolvers<void>();
    const gate = { reached: reached.promise, left: left.promise };
    test = { ...(await createTestHttpApp()), gate };
    test.health.setAccepting(true);
    // Tells when a request is there and when its client has gone, and answers it when told to.
    test.app.get('/gate', ({ raw }) => {
      raw.socket.once('close', () => left.resolve());
      return new Promise((resolve) => reached.resolve(() => resolve({ passed: true })));
    });
    test.app.post(
      '/echo',
      { schema: { body: z.strictObject({ name: z.string() }) } },
      async ({ body }) => body,
    );
    test.app.get(
      '/things/:id',
      { schema: { querystring: z.object({ limit: z.coerce.number().int().default(10) }) } },
      async ({ query }) => query,
    );
    test.app.get('/throw/:what', async (request) => {
      const { what } = request.params as { what: string };
      if (what === 'problem') {
        throw new ProblemError(createProblem(503, 'queue-unavailable', 'try again'), {
          retryAfterSeconds: 5,
        });
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

  it('server, of a method that the path does not take, says which it takes', async () => {
    expect((await test.app.inject({ method: 'DELETE', url: '/echo' })).headers['allow']).toBe('POST');
  });

  it('server, of a wrong field, points at it', async () => {
    expect((await post({ name: 1, extra: 2 })).json()).toMatchObject({
      errors: [{ pointer: '/name' }, { pointer: '', detail: 'Unrecognized key: "extra"' }],
    });
    const query = await test.app.inject('/things/1?limit=many');
    expect(query.json()).toMatchObject({ errors: [{ pointer: '/querystring/limit' }] });
  });

  it('server, of an unexpected error, tells the log, not the client', async () => {
    const answer = await test.app.inject('/throw/error');
    expect(answer.body).not.toContain('hunter2');
    const line = test.lines.find(({ message }) => message === 'request failed');
    expect(line).toMatchObject({
      level: 'ERROR',
      traceId: answer.json().traceId,
      err: { message: 'password is hunter2' },
    });
  });

  it('server, of an error that says when to try again, sends Retry-After', async () => {
    expect((await test.app.inject('/throw/problem')).headers['retry-after']).toBe('5');
  });

  it('server, of a request with a traceparent, carries its trace on into problem and log', async () => {
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
    expect(Object.keys(api.paths)).toContain('/echo');
    expect(Object.keys(api.paths)).not.toContain('/openapi.json');
    expect((await test.app.inject('/docs/')).headers['content-type']).toContain('text/html');
  });

  describe('on a port', () => {
    const sockets: Socket[] = [];
    beforeEach(() => listen(test.app, loopback));
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
    ])('server, of %s, answers problem+json and closes', async (_what, bytes, status, kind) => {
      const socket = await open();
      socket.write(bytes);
      const [head = '', body = ''] = (await readAll(socket)).split('\r\n\r\n');
      expect(head).toContain(`HTTP/1.1 ${status} `);
      expect(head).toContain('content-type: application/problem+json');
      expect(JSON.parse(body)).toMatchObject({ status, type: `/problems/${kind}` });
    });

    it('close, with an idle connection, closes it and resolves', async () => {
      const socket = await open();
      socket.write(get('/livez'));
      const [first] = await once(socket, 'data');
      expect(first).toContain('Connection: keep-alive');
      await test.app.close();
      expect(await readAll(socket)).toBe('');
    });

    it('server, that no longer accepts, still answers, and gives the connection up', async () => {
      const socket = await open();
      socket.write(get('/livez'));
      expect(String(await once(socket, 'data'))).toContain('Connection: keep-alive');
      test.health.setAccepting(false);
      socket.write(get('/livez'));
      const answer = await readAll(socket);
      expect(answer).toContain('HTTP/1.1 200 OK');
      expect(answer).toContain('connection: close');
    });

    it('server, of an old connection, gives it up with the next answer', async () => {
      const old = await createTestHttpApp({ connectionMaxAgeMs: 0 });
      old.health.setAccepting(true);
      await listen(old.app, loopback);
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

      it('close, when the rest does not come, gives the request up and resolves', async () => {
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

      it('close, answers the request, gives its connection up, and only then resolves', async () => {
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

describe('listen', () => {
  it('listen, on a port that is taken, says which and how to choose another', async () => {
    const [first, second] = [await createTestHttpApp(), await createTestHttpApp()];
    try {
      await listen(first.app, loopback);
      const { port } = first.app.server.address() as AddressInfo;
      const failure = listen(second.app, { ...loopback, port });
      await expect(failure).rejects.toThrow(StartupError);
      await expect(failure).rejects.toThrow(
        `port ${port} on 127.0.0.1 is taken by another process: set TEST_PORT or HOST`,
      );
    } finally {
      await Promise.all([first.app.close(), second.app.close()]);
    }
  });

  it('listen, on an address of another machine, says so', async () => {
    const { app } = await createTestHttpApp();
    try {
      await expect(listen(app, { ...loopback, host: '192.0.2.1' })).rejects.toThrow(
        'port 0 on 192.0.2.1 cannot be listened on (EADDRNOTAVAIL): set TEST_PORT or HOST',
      );
    } finally {
      await app.close();
    }
  });
});
