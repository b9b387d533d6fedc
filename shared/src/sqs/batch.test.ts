import type { BatchResultErrorEntry } from '@aws-sdk/client-sqs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type BatchEntryError, sendEntries } from './batch.ts';

// Vitest's clock does not reach `node:timers/promises`.
vi.mock('node:timers/promises', () => ({
  setTimeout: (delayMs: number) => new Promise((resolve) => setTimeout(resolve, delayMs)),
}));

type Sent = { Id: string; MessageBody: string };
type Answer = { Successful?: { Id: string; MessageId: string }[]; Failed?: BatchResultErrorEntry[] };

const ok = ({ Id, MessageBody }: Sent) => ({ Id, MessageId: `message ${MessageBody}` });
const broken = ({ Id }: { Id: string }) => ({ Id, Code: 'InternalError', SenderFault: false });
const faulty = ({ Id }: { Id: string }) => ({ Id, Code: 'InvalidMessageContents', SenderFault: true });

/** Sends the entries to a queue that answers as told, request by request, and lets all waiting pass. */
async function sendTo(bodies: string, ...answers: ((entries: Sent[]) => Answer | Promise<Answer>)[]) {
  const requests: string[] = [];
  const send = vi.fn(async (entries: Sent[]) => {
    requests.push(entries.map(({ Id, MessageBody }) => `${Id}${MessageBody}`).join(' '));
    const answer = answers[requests.length - 1];
    if (!answer) throw new Error('one request too many');
    return answer(entries);
  });
  const outcome = sendEntries(
    [...bodies].map((MessageBody) => ({ MessageBody })),
    send,
  ).then(
    (results) =>
      results.map((result) =>
        result instanceof Error ? (result as BatchEntryError).code : result.MessageId,
      ),
    (error: Error) => error,
  );
  await vi.runAllTimersAsync();
  return { results: await outcome, requests };
}

describe('sendEntries', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('sendEntries, when all succeed, answers in order whatever the order of the answer', async () => {
    const { results, requests } = await sendTo('abc', (entries) => ({
      Successful: entries.map(ok).reverse(),
    }));
    expect(results).toEqual(['message a', 'message b', 'message c']);
    expect(requests).toEqual(['0a 1b 2c']);
  });

  it('sendEntries, given an answer whose Ids only read like ours as numbers, takes none for sent', async () => {
    const confuse = ([first]: Sent[]) => ({
      Successful: ['', ' 0', '0.0', '0x0'].map((Id) => ({ ...ok(first as Sent), Id })),
    });
    const { results } = await sendTo('a', confuse, confuse, confuse);
    expect(results).toEqual(['NotAnswered']);
  });

  it('sendEntries, when some fail, sends only these again under their own Ids', async () => {
    const { results, requests } = await sendTo(
      'abc',
      ([a, b, c]) => ({ Successful: [ok(b as Sent)], Failed: [broken(a as Sent), broken(c as Sent)] }),
      (entries) => ({ Successful: entries.map(ok) }),
    );
    expect(results).toEqual(['message a', 'message b', 'message c']);
    expect(requests).toEqual(['0a 1b 2c', '0a 2c']);
  });

  it('sendEntries, when all fail every time, gives up after three requests', async () => {
    const fail = (entries: Sent[]) => ({ Failed: entries.map(broken) });
    const { results, requests } = await sendTo('ab', fail, fail, fail);
    expect(results).toEqual(['InternalError', 'InternalError']);
    expect(requests).toEqual(['0a 1b', '0a 1b', '0a 1b']);
  });

  it("sendEntries, when the sender is at fault, doesn't send that entry again", async () => {
    const { results, requests } = await sendTo(
      'abc',
      ([a, b, c]) => ({ Successful: [ok(a as Sent)], Failed: [faulty(b as Sent), broken(c as Sent)] }),
      (entries) => ({ Successful: entries.map(ok) }),
    );
    expect(results).toEqual(['message a', 'InvalidMessageContents', 'message c']);
    expect(requests).toEqual(['0a 1b 2c', '2c']);
  });

  it.each([
    'RequestThrottled',
    'ThrottlingException',
    'Throttling',
    'KMS.ThrottlingException',
    'KmsThrottled',
    'KmsDisabled',
    'KmsAccessDenied',
    'AccessDenied',
    'NotAuthorized',
    'RequestExpired',
    'InvalidSecurity',
    'ExpiredToken',
    'OverLimit',
    'InternalError',
    'SomethingNewer',
  ])('sendEntries, given the code %s, sends the entry again, whatever SenderFault says', async (Code) => {
    const fail = (entries: Sent[]) => ({
      Failed: entries.map(({ Id }) => ({ Id, Code, SenderFault: true })),
    });
    const { results, requests } = await sendTo('a', fail, fail, (entries) => ({
      Successful: entries.map(ok),
    }));
    expect(results).toEqual(['message a']);
    expect(requests).toEqual(['0a', '0a', '0a']);
  });

  it.each([
    ['InvalidMessageContents', 'InvalidMessageContents'],
    ['InvalidAttributeValue', 'InvalidAttributeValue'],
    ['InvalidParameterValue', 'InvalidParameterValue'],
    ['InvalidParameterValueException', 'InvalidParameterValue'],
    ['AWS.SimpleQueueService.BatchRequestTooLong', 'BatchRequestTooLong'],
    ['ReceiptHandleIsInvalid', 'ReceiptHandleIsInvalid'],
    ['MessageNotInflight', 'MessageNotInflight'],
  ])('sendEntries, given the code %s, is permanent, whatever SenderFault says', async (Code, code) => {
    const fail = (entries: Sent[]) => ({
      Failed: entries.map(({ Id }) => ({ Id, Code, SenderFault: false })),
    });
    const { results, requests } = await sendTo('a', fail);
    expect(results).toEqual([code]);
    expect(requests).toEqual(['0a']);
  });

  it('sendEntries, when a whole request is refused for what is in it, sends each alone', async () => {
    const tooLong = (entries: Sent[]) =>
      entries.some(({ MessageBody }) => MessageBody === 'b')
        ? Promise.reject(Object.assign(new Error('too long'), { name: 'BatchRequestTooLong' }))
        : { Successful: entries.map(ok) };
    const { results, requests } = await sendTo('abc', tooLong, tooLong, tooLong, tooLong);
    expect(results).toEqual(['message a', 'BatchRequestTooLong', 'message c']);
    expect(requests).toEqual(['0a 1b 2c', '0a', '0b', '0c']);
  });

  it('sendEntries, when the answer leaves an entry out, treats it as failed and sends it again', async () => {
    const { results, requests } = await sendTo(
      'ab',
      ([a]) => ({ Successful: [ok(a as Sent)] }),
      () => ({}),
      () => ({ Successful: [], Failed: [] }),
    );
    expect(results).toEqual(['message a', 'NotAnswered']);
    expect(requests).toEqual(['0a 1b', '1b', '1b']);
  });

  it('sendEntries, when a failed entry has no code, still names the failure', async () => {
    const fail = ([a]: Sent[]) => ({ Failed: [{ Id: a?.Id, Code: undefined, SenderFault: true }] });
    expect((await sendTo('a', fail)).results).toEqual(['unknown']);
  });

  it('sendEntries, when the first request fails as a whole, rejects with its error', async () => {
    const lost = new Error('connection lost');
    const { results } = await sendTo('ab', () => Promise.reject(lost));
    expect(results).toBe(lost);
  });

  it('sendEntries, when a repeated request fails as a whole, keeps what had succeeded', async () => {
    const { results, requests } = await sendTo(
      'abc',
      ([a, b, c]) => ({ Successful: [ok(a as Sent), ok(b as Sent)], Failed: [broken(c as Sent)] }),
      () => Promise.reject(new Error('connection lost')),
    );
    expect(results).toEqual(['message a', 'message b', 'InternalError']);
    expect(requests).toEqual(['0a 1b 2c', '2c']);
  });

  it('sendEntries, before it sends again, backs off', async () => {
    const send = vi.fn(async (entries: Sent[]) => ({
      Failed: entries.map(broken),
      Successful: [] as { Id: string }[],
    }));
    const results = sendEntries([{ MessageBody: 'a' }], send, { attempts: 2, baseMs: 100, maxMs: 1_000 });
    await vi.advanceTimersByTimeAsync(49);
    expect(send).toHaveBeenCalledTimes(1);
    await vi.advanceTimersByTimeAsync(51);
    expect(send).toHaveBeenCalledTimes(2);
    expect(await results).toHaveLength(1);
  });
});
