import type { MessageSender, MessageToSend } from '@orders/shared/sqs/message-sender.ts';
import { LRUCache } from 'lru-cache';
import type { ReceivedMessage } from '../../queue/received-message.ts';
import type { Lease } from '../lease.ts';

const MAX_REMEMBERED = 20_000;

/** What of a received message is sent on: all of it, or one line of a packed message. */
export type Piece = { lease: Lease; message: ReceivedMessage; line?: number };

/**
 * Sends what was received on to a queue: only while its lease is held, and each piece once, however often its message
 * is delivered. The last 20,000 pieces are remembered, in this process: after a restart, or by another consumer, what
 * was sent of a message that was not deleted is sent again.
 */
export class CopySender {
  readonly #sender: MessageSender;
  /** Whether the piece was sent, as soon as that is known. */
  readonly #sent = new LRUCache<string, Promise<boolean>>({ max: MAX_REMEMBERED });

  constructor(sender: MessageSender) {
    this.#sender = sender;
  }

  /**
   * Resolves when the queue has the piece; false when it had it before.
   * @throws {NotWantedError} the lease was lost or closed before the request
   */
  async send({ lease, line }: Piece, message: MessageToSend): Promise<boolean> {
    const key = `${lease.message.messageId} ${line ?? 'whole'}`;
    const earlier = this.#sent.get(key);
    if (earlier && (await earlier)) return false;
    const sending = this.#sender.send(message, () => lease.held);
    this.#sent.set(
      key,
      sending.then(
        () => true,
        () => false,
      ),
    );
    await sending;
    return true;
  }
}
