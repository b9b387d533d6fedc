import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { anOrderRequest } from '@orders/shared/testing/orders.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { scrape } from '../../scripts/prometheus-text.ts';
import { eventually } from '../support/eventually.ts';
import { getJson, type Pair, post, startPair } from '../support/pair.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

/** Each runs several commands, one after the other. */
const TIMEOUT_MS = 300_000;

describe('what operators do while the services run', { timeout: TIMEOUT_MS }, () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await startPair();
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  async function run(script: string, ...words: (string | Record<string, string>)[]) {
    const args = words.filter((word) => typeof word === 'string');
    const env = words.filter((word) => typeof word !== 'string');
    const ports = {
      PRODUCER_PORT: new URL(pair.producerUrl).port,
      CONSUMER_PORT: new URL(pair.consumerUrl).port,
      AWS_ENDPOINT_URL: pair.endpoint,
    };
    const answer = promisify(execFile)(process.execPath, [path.join(ROOT, script), ...args], {
      env: Object.assign({}, process.env, ports, ...env),
    });
    return answer.then(
      ({ stdout }) => ({ status: 0, stdout }),
      ({ code, stdout }) => ({ status: code, stdout }),
    );
  }
  const place = async () =>
    (await post(`${pair.producerUrl}/orders`, anOrderRequest())).body.orderId as string;
  const isStored = (orderId: string) =>
    eventually(async () => expect((await getJson(`${pair.consumerUrl}/orders/${orderId}`)).status).toBe(200));
  const consumption = async () =>
    (await getJson(`${pair.consumerUrl}/actuator/health`)).body.components.consumption;

  it('consuming that is paused stores nothing, stays ready, says so, and goes on when resumed', async () => {
    await isStored(await place());
    expect(await run('scripts/consumption.ts', 'pause', 'dev')).toEqual({
      status: 0,
      stdout: expect.stringMatching(/^order-consumer: paused since 20/),
    });
    const polls = async () =>
      (await scrape(pair.consumerUrl)).sum(
        'sqs_request_duration_seconds_count',
        ({ operation }) => operation === 'ReceiveMessage',
      );
    // Those that were under way come to their end, and no other begins: then the count of two looks is the same.
    await eventually(async () => {
      const before = await polls();
      const orderId = await place();
      const { status } = await getJson(`${pair.consumerUrl}/orders/${orderId}`);
      expect([status, await polls()]).toEqual([404, before]);
    });
    const waiting = await place();
    expect((await getJson(`${pair.consumerUrl}/readyz`)).status).toBe(200);
    await eventually(async () =>
      expect(await consumption()).toEqual({
        status: 'UP',
        details: { paused: true, since: expect.stringMatching(/^20/) },
      }),
    );
    expect((await scrape(pair.consumerUrl)).value('sqs_consumption_paused')).toBe(1);
    expect((await run('scripts/consumption.ts', 'status', 'dev')).status).toBe(1);
    expect((await getJson(`${pair.consumerUrl}/orders/${waiting}`)).status).toBe(404);

    expect(await run('scripts/consumption.ts', 'resume', 'dev')).toEqual({
      status: 0,
      stdout: 'order-consumer: consumes\n',
    });
    await isStored(waiting);
    expect((await scrape(pair.consumerUrl)).value('sqs_consumption_paused')).toBe(0);
    expect((await run('scripts/consumption.ts', 'status', 'dev')).status).toBe(0);
    const audited = pair.lines.filter(({ audit }) => audit === 'consumption');
    expect(audited.map(({ message, paused }) => [message, paused])).toEqual([
      ['consuming paused', true],
      ['consuming resumed', false],
    ]);
  });

  it('a log level that is changed says until when, and who changed it', async () => {
    expect(await run('scripts/log-level.ts', 'order-producer', 'dev')).toEqual({
      status: 0,
      stdout: 'order-producer: debug\n',
    });
    expect(
      await run('scripts/log-level.ts', 'order-producer', 'dev', '--level=warn', '--minutes=60'),
    ).toEqual({
      status: 0,
      stdout: expect.stringMatching(/^order-producer: warn until 20.*, then debug\n$/),
    });
    expect(pair.lines.filter(({ audit }) => audit === 'log-level')).toEqual([
      expect.objectContaining({ message: 'log level changed', level: 'INFO', logLevel: 'warn', minutes: 60 }),
    ]);
  });

  it('a bundle for whoever is called next has what both services and SQS say', async () => {
    const { status, stdout } = await run('scripts/diagnose.ts', 'dev');
    const bundle = JSON.parse(stdout);
    expect([status, bundle]).toEqual([0, expect.objectContaining({ environment: 'dev' })]);
    expect(bundle.producers['order-producer']).toMatchObject({
      health: { status: 'UP' },
      info: { build: { version: 'test' } },
      metrics: expect.stringContaining('orders_accepted_total'),
    });
    expect(bundle.consumers['order-consumer']).toMatchObject({ consumption: { paused: false } });
    expect(bundle.queues['order-queue']).toMatchObject({ VisibilityTimeout: '60' });
  });

  it('a bundle says what did not answer, and has the rest', async () => {
    const { status, stdout } = await run('scripts/diagnose.ts', 'dev', { PRODUCER_PORT: '1' });
    const bundle = JSON.parse(stdout);
    expect(status).toBe(1);
    expect(bundle.producers['order-producer'].health.error).toContain('order-producer does not answer');
    expect(bundle.consumers['order-consumer'].health).toMatchObject({ status: 'UP' });
  });

  it.each([{ paused: 'yes' }, {}, { paused: true, for: 'ever' }])(
    'what is no pause is refused: %j',
    async (body) => {
      expect((await post(`${pair.consumerUrl}/actuator/consumption`, body)).status).toBe(400);
      expect((await consumption()).details).toEqual({ paused: false });
    },
  );
});
