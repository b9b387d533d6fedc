import { setTimeout as sleep } from 'node:timers/promises';
import { type Message, ReceiveMessageCommand, type SQSClient } from '@aws-sdk/client-sqs';
import { backoffMs } from '@orders/shared/runtime/backoff.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import { type ReceivedMessage, toReceivedMessage } from '../../queue/received-message.ts';
import type { Watchdog } from '../watchdog.ts';
import type { Admission } from './admission.ts';

export type PollerOptions = {
  client: SQSClient;
  queueUrl: string;
  admission: Admission;
  watchdog: Watchdog;
  /** Most messages that one poll asks for, 1 to 10. */
  maxMessages: number;
  waitTimeSeconds: number;
  /** The lease of what is received. */
  visibilitySeconds: number;
  /** Before the next poll after one that failed. */
  backoffMs: { min: number; max: number };
  /** LocalStack 3.4 knows only the older name of the system attributes. */
  asksByOldNames: boolean;
  metrics: ConsumerMetrics;
  logger: Logger;
  /** Takes over the messages, and their places with them. Must not reject. */
  onMessages: (messages: ReceivedMessage[], requestedAtMs: number) => void;
};

/** How long a request may take beyond the wait time before it counts as lost. */
export const RECEIVE_MARGIN_MS = 5_000;
/** What a healthy poller needs between its steps, generously. */
const STEP_MARGIN_MS = 15_000;

const SYSTEM_ATTRIBUTES = [
  'ApproximateReceiveCount',
  'SentTimestamp',
  'ApproximateFirstReceiveTimestamp',
  'MessageGroupId',
] as const;

/** One loop of long polls. Only `stop` ends it; after an error it backs off. */
export class Poller {
  readonly #options: PollerOptions;
  readonly #index: number;
  readonly #name: string;
  #failures = 0;

  constructor(index: number, options: PollerOptions) {
    this.#index = index;
    this.#name = `poller-${index}`;
    this.#options = options;
  }

  /**
   * Resolves after `stop` is aborted and the poll under way, if any, has been answered: an aborted long poll would
   * still take messages, which then wait for their visibility time.
   */
  async run(stop: AbortSignal): Promise<void> {
    const { admission, watchdog, maxMessages, waitTimeSeconds } = this.#options;
    while (!stop.aborted) {
      watchdog.done(this.#name); // waiting for work, the store, or a place is no lack of progress of this loop
      const asked = await admission.request(this.#index, maxMessages, stop);
      if (asked === 0) break;
      watchdog.expect(this.#name, waitTimeSeconds * 1_000 + RECEIVE_MARGIN_MS + STEP_MARGIN_MS);
      await this.#poll(asked);
      if (this.#failures > 0) await this.#backOff(stop);
    }
    watchdog.done(this.#name);
  }

  async #poll(asked: number): Promise<void> {
    const { admission, metrics, logger, onMessages } = this.#options;
    const requestedAtMs = performance.now();
    let messages: ReceivedMessage[];
    try {
      messages = (await this.#receive(asked)).map(toReceivedMessage);
    } catch (err) {
      this.#failures++;
      metrics.pollErrors.inc();
      logger.warn({ err, failures: this.#failures }, 'poll failed');
      admission.release(asked);
      return;
    }
    this.#failures = 0;
    admission.recordPoll({ asked, received: messages.length });
    metrics.observeOldest(oldest(messages));
    if (messages.length === 0) return metrics.emptyPolls.inc();
    metrics.received.inc(messages.length);
    metrics.redelivered.inc(messages.filter(({ receiveCount }) => receiveCount > 1).length);
    onMessages(messages, requestedAtMs);
  }

  async #receive(MaxNumberOfMessages: number): Promise<Message[]> {
    const { client, queueUrl, waitTimeSeconds, visibilitySeconds, asksByOldNames } = this.#options;
    const { Messages } = await client.send(
      new ReceiveMessageCommand({
        QueueUrl: queueUrl,
        MaxNumberOfMessages,
        WaitTimeSeconds: waitTimeSeconds,
        VisibilityTimeout: visibilitySeconds,
        MessageAttributeNames: ['All'],
        MessageSystemAttributeNames: [...SYSTEM_ATTRIBUTES],
        ...(asksByOldNames ? { AttributeNames: ['All' as const] } : {}),
      }),
    );
    return Messages ?? [];
  }

  async #backOff(stop: AbortSignal): Promise<void> {
    const {
      watchdog,
      backoffMs: { min, max },
    } = this.#options;
    const delayMs = backoffMs(this.#failures - 1, { baseMs: min, maxMs: max });
    watchdog.expect(this.#name, delayMs + STEP_MARGIN_MS);
    await sleep(delayMs, undefined, { signal: stop }).catch(() => {});
  }
}

function oldest(messages: ReceivedMessage[]): Date | undefined {
  const times = messages.flatMap(({ sentAt }) => sentAt?.getTime() ?? []);
  return times.length > 0 ? new Date(Math.min(...times)) : undefined;
}
