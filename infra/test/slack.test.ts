import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createSlackHandler, MalformedEventError, NotPostedError, slackMessage } from '../functions/slack.ts';

type Answer = (request: IncomingMessage, response: ServerResponse) => void;
const answer =
  (status: number, headers: Record<string, string> = {}): Answer =>
  (_, response) =>
    void response.writeHead(status, headers).end('invalid_payload');

/** Slack's webhook: gives one answer after the other, the last one again and again. */
async function startWebhook(...answers: Answer[]) {
  const bodies: { text: string; blocks: { fields?: { text: string }[] }[] }[] = [];
  const paths: string[] = [];
  const server = createServer(async (request, response) => {
    bodies.push(JSON.parse(await text(request)));
    paths.push(request.url ?? '');
    (answers[bodies.length - 1] ?? answers.at(-1))?.(request, response);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/services/T0/B0/secret`, bodies, paths };
}

function handlerOf(url: string, { timeoutMs = 5_000 } = {}) {
  const waits: number[] = [];
  const reads: boolean[] = [];
  const handle = createSlackHandler({
    readWebhook: async ({ fresh }) => {
      reads.push(fresh);
      return fresh ? `${url}-2` : url;
    },
    timeoutMs,
    wait: async (ms) => waits.push(ms),
  });
  return { handle, waits, reads };
}

const event = (...messages: (string | object)[]) => ({
  Records: messages.map((message) => ({
    EventSource: 'aws:sns',
    Sns: { Message: typeof message === 'string' ? message : JSON.stringify(message), Subject: 'About it' },
  })),
});

/** As CloudWatch sends it to SNS. */
const ALARM = {
  AlarmName: 'SQS-DLQ-Messages-High',
  AlarmDescription: 'Orders were rejected. Runbook: https://example.com/runbooks/DeadLetters.md',
  AWSAccountId: '111122223333',
  NewStateValue: 'ALARM',
  NewStateReason:
    'Threshold Crossed: 1 out of the last 2 datapoints [12.0 (27/11/26 14:00:00)] was greater than the threshold (10.0) (minimum 1 datapoint for OK -> ALARM transition).',
  OldStateValue: 'OK',
  Trigger: { MetricName: 'ApproximateNumberOfMessagesVisible', Threshold: 10, Period: 300 },
};

describe('slackMessage', () => {
  it("has the guideline's fields of an alarm, with value, threshold and runbook", () => {
    expect(slackMessage({ Message: JSON.stringify(ALARM) })).toEqual({
      title: ':red_circle: ALARM: SQS-DLQ-Messages-High',
      fields: {
        alarm: 'SQS-DLQ-Messages-High',
        status: 'ALARM',
        reason: ALARM.NewStateReason,
        value: '12.0',
        threshold: '10',
        runbook: 'https://example.com/runbooks/DeadLetters.md',
        description: 'Orders were rejected.',
      },
    });
  });

  it('leaves out what a composite alarm, or one without data, does not have', () => {
    const { Trigger: _, AlarmDescription: __, ...rest } = ALARM;
    const { title, fields } = slackMessage({
      Message: JSON.stringify({ ...rest, NewStateValue: 'INSUFFICIENT_DATA', NewStateReason: 'no data' }),
    });
    expect(title).toBe(':white_circle: INSUFFICIENT_DATA: SQS-DLQ-Messages-High');
    expect(Object.keys(fields)).toEqual(['alarm', 'status', 'reason']);
  });

  it('tells the details of an event of EventBridge', () => {
    const message = {
      source: 'order-pipeline',
      'detail-type': 'Deployment Done',
      time: '2026-11-27T14:00:00Z',
      detail: { release: '1.5.0', environment: 'staging', pods: 3 },
    };
    expect(slackMessage({ Message: JSON.stringify(message) })).toEqual({
      title: ':information_source: Deployment Done',
      fields: {
        source: 'order-pipeline',
        time: '2026-11-27T14:00:00Z',
        release: '1.5.0',
        environment: 'staging',
        pods: '3',
      },
    });
  });

  it.each([
    'a plain text',
    '"a text in JSON"',
    '[1]',
    'null',
    '{"AlarmName":7}',
    '{"detail-type":"x","detail":null}',
  ])('passes on %s as it is', (Message) => {
    expect(slackMessage({ Message, Subject: 'About it' })).toEqual({
      title: 'About it',
      fields: { message: Message },
    });
    expect(slackMessage({ Message, Subject: null }).title).toBe('Message');
  });
});

describe('the Slack function', () => {
  it('posts each message of the event', async () => {
    const { url, bodies } = await startWebhook(answer(200));
    const { handle } = handlerOf(url);
    await handle(event(ALARM, 'plain'));
    expect(bodies.map((body) => body.text)).toEqual([
      ':red_circle: ALARM: SQS-DLQ-Messages-High',
      'About it',
    ]);
    expect(bodies[0]?.blocks[1]?.fields?.map((field) => field.text.split('\n')[0])).toEqual(
      ['alarm', 'status', 'reason', 'value', 'threshold', 'runbook', 'description'].map(
        (name) => `*${name}*`,
      ),
    );
  });

  it('cuts what is too long for Slack, and lets no text mention anybody', async () => {
    const { url, bodies } = await startWebhook(answer(200));
    const detail = Object.fromEntries(
      Array.from({ length: 30 }, (_, index) => [`<!channel>${index}`, '&<>😀'.repeat(900)]),
    );
    await handlerOf(url).handle(event({ 'detail-type': '<!here>'.repeat(100), detail }));
    const [body] = bodies;
    expect(body?.text.length).toBeLessThanOrEqual(150);
    const fields = body?.blocks[1]?.fields ?? [];
    expect(fields).toHaveLength(10);
    for (const field of fields) expect(field.text.length).toBeLessThanOrEqual(2_000);
    expect(fields[2]?.text.length).toBeGreaterThan(1_900);
    expect(JSON.stringify(body)).not.toMatch(/[<>]|&(?!amp;|lt;|gt;)|\\ud[89a-f]/);
  });

  it.each([
    ['429 with a wait', answer(429, { 'retry-after': '2' }), [2_000]],
    ['429 with a wait that is too long', answer(429, { 'retry-after': '3600' }), [5_000]],
    [
      '429 with a wait that is a date',
      answer(429, { 'retry-after': 'Fri, 27 Nov 2026 14:00:00 GMT' }),
      [1_000],
    ],
    ['500', answer(500), [1_000]],
    ['a broken connection', ((request) => request.socket.destroy()) as Answer, [1_000]],
  ])('after %s, posts again', async (_, first, waited) => {
    const { url, bodies } = await startWebhook(first, answer(200));
    const { handle, waits } = handlerOf(url);
    await handle(event(ALARM));
    expect(bodies).toHaveLength(2);
    expect(waits).toEqual(waited);
  });

  it('gives up a webhook that never answers, and rejects after three attempts', async () => {
    const { url, bodies } = await startWebhook(() => {});
    const { handle, waits } = handlerOf(url, { timeoutMs: 100 });
    await expect(handle(event(ALARM))).rejects.toThrow(NotPostedError);
    expect(bodies).toHaveLength(3);
    expect(waits).toEqual([1_000, 2_000]);
  });

  it('gives up a webhook that answers and never ends its answer', async () => {
    const { url, bodies } = await startWebhook((_, response) => void response.writeHead(200).write('o'));
    await handlerOf(url).handle(event(ALARM));
    expect(bodies).toHaveLength(1);
  });

  it('does not repeat what Slack refuses, and says nothing of the URL', async () => {
    const { url, bodies } = await startWebhook(answer(400));
    const { handle } = handlerOf(url);
    const error = await handle(event(ALARM)).catch((error: unknown) => error);
    expect(error).toBeInstanceOf(NotPostedError);
    expect(`${error} ${JSON.stringify(error)} ${(error as Error).cause}`).not.toContain('secret');
    expect(bodies).toHaveLength(1);
  });

  it.each([403, 404, 410])('after %i, reads the webhook again, which was replaced', async (status) => {
    const { url, paths } = await startWebhook(answer(status), answer(200));
    const { handle, reads } = handlerOf(url);
    await handle(event(ALARM));
    expect(reads).toEqual([false, true]);
    expect(paths).toEqual(['/services/T0/B0/secret', '/services/T0/B0/secret-2']);
  });

  it('follows no redirect: the next host would get what only Slack may have', async () => {
    const { url, bodies } = await startWebhook(answer(307, { location: 'http://127.0.0.1:1/' }));
    await expect(handlerOf(url).handle(event(ALARM))).rejects.toThrow('no answer');
    expect(bodies).toHaveLength(3);
  });

  it.each([
    undefined,
    null,
    'text',
    [],
    {},
    { Records: [] },
    { Records: 'x' },
    { Records: [null] },
    { Records: [{ Sns: {} }] },
    { Records: [{ body: 'of SQS' }] },
  ])('rejects what is no event of SNS: %j', async (malformed) => {
    const { url, bodies } = await startWebhook(answer(200));
    await expect(handlerOf(url).handle(malformed)).rejects.toThrow(MalformedEventError);
    expect(bodies).toEqual([]);
  });
});
