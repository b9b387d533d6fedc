import { Counter, Gauge } from 'prom-client';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createTestHttpApp, type TestHttpApp } from '../../testing/http-app.ts';

describe('actuator', () => {
  let test: TestHttpApp;
  beforeEach(async () => {
    test = await createTestHttpApp();
    test.health.setAccepting(true);
  });
  afterEach(() => test.app.close());

  const get = async (url: string) => {
    const answer = await test.app.inject(url);
    const json = answer.headers['content-type']?.toString().includes('json') ? answer.json() : undefined;
    return { status: answer.statusCode, type: answer.headers['content-type'], text: answer.body, json };
  };

  it.each(['/livez', '/actuator/health/liveness'])(
    '%s, given a live service, is 200 UP, and 503 DOWN of one without progress',
    async (url) => {
      expect(await get(url)).toMatchObject({ status: 200, json: { status: 'UP' } });
      test.state.live = false;
      expect(await get(url)).toMatchObject({ status: 503, json: { status: 'DOWN' } });
    },
  );

  it.each(['/readyz', '/actuator/health/readiness'])('%s, given a ready service, is 200 UP', async (url) => {
    expect(await get(url)).toMatchObject({ status: 200, json: { status: 'UP' } });
  });

  it.each(['/readyz', '/actuator/health/readiness'])(
    '%s, with a component down, is 503 DOWN while liveness stays UP',
    async (url) => {
      test.state.sqs = { status: 'DOWN' };
      expect(await get(url)).toMatchObject({ status: 503, json: { status: 'DOWN' } });
      expect((await get('/livez')).status).toBe(200);
    },
  );

  it('OpenAPI, of every operation, shows a summary under the tag operations', async () => {
    const { paths } = (await get('/openapi.json')).json;
    const operations = Object.values<{ get: object }>(paths).map(({ get }) => get);
    expect(operations).toHaveLength(11);
    for (const operation of operations)
      expect(operation).toMatchObject({ tags: ['operations'], summary: expect.stringMatching(/./) });
  });

  it('/readyz, given a service that stops, is 503', async () => {
    test.health.setAccepting(false);
    expect((await get('/readyz')).status).toBe(503);
  });

  it('/actuator/health, given a healthy service, shows components with details', async () => {
    expect(await get('/actuator/health')).toMatchObject({
      status: 200,
      json: { status: 'UP', components: { sqs: { status: 'UP', details: { queue: 'order-queue' } } } },
    });
  });

  it('/actuator/health, with a component down, is 503 and says which', async () => {
    test.state.sqs = { status: 'DOWN', details: { error: 'no answer in time' } };
    expect(await get('/actuator/health')).toMatchObject({
      status: 503,
      json: {
        status: 'DOWN',
        components: { sqs: { status: 'DOWN', details: { error: 'no answer in time' } } },
      },
    });
  });

  it.each(['/metrics', '/actuator/prometheus'])(
    '%s, with a management port, is 404 and names it',
    async (url) => {
      const { app } = await createTestHttpApp({ managementPort: 8082 });
      try {
        const answer = await app.inject(url);
        expect(answer.statusCode).toBe(404);
        expect(answer.json()).toMatchObject({
          type: '/problems/on-management-port',
          detail: 'this is on port 8082, MANAGEMENT_PORT',
        });
        expect(Object.keys((await app.inject('/actuator')).json()._links)).not.toContain('prometheus');
      } finally {
        await app.close();
      }
    },
  );

  it('/actuator, links what there is', async () => {
    const { json } = await get('/actuator');
    expect(Object.keys(json._links)).toEqual(['health', 'info', 'metrics', 'prometheus']);
    for (const { href } of Object.values<{ href: string }>(json._links))
      expect((await get(href)).status).toBe(200);
  });

  it('/actuator/info, says name, version, runtime and environment', async () => {
    expect((await get('/actuator/info')).json).toEqual({
      build: { name: 'order-test', version: '1.2.3' },
      node: { version: process.version },
      environment: 'dev',
    });
  });

  it.each(['/metrics', '/actuator/prometheus'])(
    '%s, is Prometheus text with the service as label',
    async (url) => {
      const { status, type, text } = await get(url);
      expect(status).toBe(200);
      expect(type).toContain('text/plain; version=0.0.4');
      expect(text).toMatch(/^build_info\{version="1\.2\.3",service="order-test"\} 1$/m);
      expect(text).toContain('# TYPE sqs_request_duration_seconds histogram');
      expect(text).toContain('process_resident_memory_bytes');
    },
  );

  it('/actuator/metrics, lists dotted names and the aliases of Spring', async () => {
    const { names } = (await get('/actuator/metrics')).json;
    expect(names).toEqual([...names].sort());
    expect(names).toEqual(
      expect.arrayContaining([
        'sqs.request.duration.seconds',
        'process.memory.used',
        'http.server.requests',
        'build.info',
      ]),
    );
  });

  it('/actuator/metrics, of every name that it lists, has an answer', async () => {
    const { names } = (await get('/actuator/metrics')).json;
    for (const name of names)
      expect([name, (await get(`/actuator/metrics/${name}`)).status]).toEqual([name, 200]);
  });

  it('/actuator/metrics/{name}, given a counter, sums its labels and names them as tags', async () => {
    const registers = [test.metrics.registry];
    const counter = new Counter({
      name: 'orders_refused_total',
      help: 'orders refused',
      labelNames: ['reason', 'via'],
      registers,
    });
    counter.inc({ reason: 'invalid', via: 'batch' }, 2);
    counter.inc({ reason: 'invalid', via: 'single' }, 3);
    counter.inc({ reason: 'buffer_full', via: 'single' }, 5);
    const expected = (value: number, reasons: string[], vias: string[]) => ({
      name: 'orders.refused',
      description: 'orders refused',
      measurements: [{ statistic: 'COUNT', value }],
      availableTags: expect.arrayContaining([
        { tag: 'reason', values: reasons },
        { tag: 'via', values: vias },
      ]),
    });
    const url = '/actuator/metrics/orders.refused';
    expect((await get(url)).json).toEqual(expected(10, ['buffer_full', 'invalid'], ['batch', 'single']));
    expect((await get(`${url}?tag=reason:invalid`)).json).toEqual(
      expected(5, ['invalid'], ['batch', 'single']),
    );
    expect((await get(`${url}?tag=reason:invalid&tag=via:batch`)).json).toEqual(
      expected(2, ['invalid'], ['batch']),
    );
    expect((await get(`${url}?tag=reason:none`)).json.measurements).toEqual([
      { statistic: 'COUNT', value: 0 },
    ]);
    expect((await get('/actuator/metrics/orders_refused_total')).json.measurements[0].value).toBe(10);
  });

  it('/actuator/metrics/{name}, given a histogram, has count and total time without buckets', async () => {
    test.metrics.sqsRequestDuration.observe({ operation: 'SendMessageBatch', result: 'success' }, 0.25);
    test.metrics.sqsRequestDuration.observe({ operation: 'SendMessageBatch', result: 'error' }, 0.5);
    const { json } = await get(
      '/actuator/metrics/sqs.request.duration.seconds?tag=operation:SendMessageBatch',
    );
    expect(json.measurements).toEqual([
      { statistic: 'COUNT', value: 2 },
      { statistic: 'TOTAL_TIME', value: 0.75 },
    ]);
    expect(json.availableTags.map(({ tag }: { tag: string }) => tag)).not.toContain('le');
  });

  it('/actuator/metrics/{name}, given a gauge, has its value', async () => {
    new Gauge({ name: 'orders_buffered', help: 'waiting', registers: [test.metrics.registry] }).set(7);
    expect((await get('/actuator/metrics/orders.buffered')).json.measurements).toEqual([
      { statistic: 'VALUE', value: 7 },
    ]);
  });

  it('/actuator/metrics/process.memory.used, an alias, is the resident memory', async () => {
    const { json } = await get('/actuator/metrics/process.memory.used');
    expect(json.name).toBe('process.memory.used');
    expect(json.measurements[0]).toEqual({ statistic: 'VALUE', value: expect.any(Number) });
    expect(json.measurements[0].value).toBeGreaterThan(10_000_000);
  });

  it('/actuator/metrics/http.server.requests, after some requests, counts them by status', async () => {
    await get('/livez');
    await get('/nowhere');
    const count = async (status: number) =>
      (await get(`/actuator/metrics/http.server.requests?tag=status:${status}`)).json.measurements[0].value;
    expect(await count(404)).toBe(1);
    expect(await count(200)).toBeGreaterThanOrEqual(1);
  });

  it('/actuator/metrics/{name}, given an unknown name, is a 404 problem', async () => {
    expect(await get('/actuator/metrics/no.such.metric')).toMatchObject({
      status: 404,
      type: 'application/problem+json',
      json: { type: '/problems/unknown-metric', status: 404, detail: 'no metric called no.such.metric' },
    });
  });
});
