import { setTimeout as sleep } from 'node:timers/promises';
import type { SQSClient } from '@aws-sdk/client-sqs';

const SECOND_MS = 1_000;

/** A moment by SQS's clock, which stamps messages. `passed` resolves when nothing can be stamped earlier any more. */
export type SqsMoment = { atMs: number; passed: () => Promise<void> };

/**
 * What time it is for SQS, from the `Date` of its last answer (RFC 9110, 6.6.1): ours may differ by hours. A date has
 * whole seconds. Where no answer has one, ours is taken, in milliseconds.
 */
export class SqsClock {
  #last: { dateMs: number; receivedAtMs: number } | undefined;

  constructor({ config: { requestHandler } }: SQSClient) {
    const handle = requestHandler.handle.bind(requestHandler);
    requestHandler.handle = async (request, options) => {
      const answer = await handle(request, options);
      const dateMs = Date.parse(answer.response.headers['date'] ?? '');
      if (!Number.isNaN(dateMs)) this.#last = { dateMs, receivedAtMs: performance.now() };
      return answer;
    };
  }

  /** The end of the second in which SQS gave its last answer. */
  endOfSecond(): SqsMoment {
    if (!this.#last) return { atMs: Date.now(), passed: () => sleep(2) };
    const { dateMs, receivedAtMs } = this.#last;
    return {
      atMs: dateMs + SECOND_MS - 1,
      passed: async () => void (await sleep(Math.max(0, receivedAtMs + SECOND_MS - performance.now()))),
    };
  }
}
