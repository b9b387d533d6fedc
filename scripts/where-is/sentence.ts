import type { OrderFate } from '@orders/consumer/domain/order-fate.ts';
import type { AppEnv } from '@orders/shared/runtime/config.ts';

/** What was found of one order. */
export type Findings = {
  orderId: string;
  environment: AppEnv;
  storedAt: string | undefined;
  /** The one that counts. */
  fate: OrderFate | undefined;
  /** With the order in them; those that others hold are not seen. */
  deadLetters: readonly { messageId: string; reason: string | undefined }[];
  /** Messages that wait or are in work in the order queue, about. */
  queued: number;
  deadLettersHeld: number;
  /** When it was accepted, by a journal; false where journals do not name it, undefined where none was read. */
  accepted: string | false | undefined;
};

/** What became of the order, and what to do next. */
export function sentenceOf(findings: Findings): string {
  const { orderId, environment, storedAt, fate, deadLetters, queued, accepted, deadLettersHeld } = findings;
  const show = `scripts/dlq.sh show ${environment} ${orderId}`;
  if (storedAt) {
    const copy = deadLetters.length > 0 ? `; another copy is in the dead-letter queue (${show})` : '';
    return `Order ${orderId} was stored at ${storedAt}${copy}: nothing to do.`;
  }
  if (fate?.kind === 'REDRIVEN')
    return `Order ${orderId} was moved back to the order queue at ${fate.at.toISOString()} after ${fate.reason}, and is neither stored nor rejected since: ${queued > 0 ? 'wait, then ask again' : 'the order queue is empty, so ask again in a minute, and if it is still so, run scripts/reconcile.sh'}.`;
  const [letter] = deadLetters;
  if (letter) {
    const reason = fate?.reason ?? letter.reason ?? 'too many receives';
    const unrecorded = fate ? '' : `, which the store does not know (scripts/dlq.sh record ${environment})`;
    return `Order ${orderId} was rejected with ${reason}${unrecorded} and is in the dead-letter queue: look at it with ${show}, mend the cause, then redrive it.`;
  }
  if (fate) {
    const next =
      deadLettersHeld > 0
        ? `others hold ${deadLettersHeld} messages there, so ask again in two minutes`
        : 'it expired or was deleted there, so its client must send it again';
    return `Order ${orderId} was rejected with ${fate.reason} at ${fate.at.toISOString()} and was not found in the dead-letter queue: ${next}.`;
  }
  const was = accepted ? `was accepted at ${accepted}, and` : 'was';
  const known = accepted === false ? ', and the journals do not name it' : '';
  if (queued > 0)
    return `Order ${orderId} ${was} neither stored nor rejected${known}, and about ${queued} messages are in the order queue, which may have it: wait until they are processed, then ask again.`;
  if (accepted)
    return `Order ${orderId} was accepted at ${accepted} and is found nowhere: ask again in a minute, look for it in the archives of scripts/retention.sh, and if it is not there, run scripts/reconcile.sh.`;
  const next =
    accepted === false
      ? 'it was never accepted, or was archived: ask its client whether it was answered with 202'
      : 'name the acceptance journal with --journal to learn whether it was accepted';
  return `Order ${orderId} is found nowhere${known}: ${next}.`;
}
