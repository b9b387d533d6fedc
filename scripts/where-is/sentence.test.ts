import { expect, test } from 'vitest';
import { type Findings, sentenceOf } from './sentence.ts';

const fate = (kind: 'REJECTED' | 'REDRIVEN'): Findings['fate'] => ({
  ...{
    kind,
    orderId: 'o',
    messageId: 'm',
    contentHash: '',
    reason: 'INVALID_ORDER',
    detail: '',
    attempts: 1,
  },
  ...{ failures: 0, firstSeenAt: new Date(0), at: new Date(0), release: '1', traceId: '' },
});
const letter = { messageId: 'm', reason: 'CONFLICT' };
const nothing: Findings = {
  ...{ orderId: 'o', environment: 'staging', storedAt: undefined, fate: undefined, deadLetters: [] },
  ...{ queued: 0, deadLettersHeld: 0, accepted: undefined },
};

test.each<[string, Partial<Findings>, RegExp]>([
  ['stored', { storedAt: 'T', fate: fate('REJECTED') }, /was stored at T: nothing to do/],
  [
    'stored, with a copy in the DLQ',
    { storedAt: 'T', deadLetters: [letter] },
    /stored at T; another copy .*show staging o/,
  ],
  [
    'rejected',
    { fate: fate('REJECTED'), deadLetters: [letter] },
    /rejected with INVALID_ORDER and is in .*show staging o/,
  ],
  [
    'rejected, unrecorded',
    { deadLetters: [letter] },
    /rejected with CONFLICT, which the store does not know .*record staging/,
  ],
  [
    'rejected, gone',
    { fate: fate('REJECTED') },
    /not found in the dead-letter queue: it expired or was deleted/,
  ],
  ['rejected, held', { fate: fate('REJECTED'), deadLettersHeld: 3 }, /others hold 3 messages/],
  [
    'redriven',
    { fate: fate('REDRIVEN'), queued: 2 },
    /moved back .* after INVALID_ORDER.*wait, then ask again/,
  ],
  ['redriven, and lost', { fate: fate('REDRIVEN') }, /the order queue is empty.*reconcile/],
  [
    'queued',
    { queued: 5, accepted: 'T' },
    /accepted at T, and neither stored nor rejected, and about 5 messages/,
  ],
  ['accepted, and found nowhere', { accepted: 'T' }, /accepted at T and is found nowhere.*reconcile/],
  [
    'in no journal',
    { accepted: false },
    /found nowhere, and the journals do not name it: it was never accepted/,
  ],
  ['unknown', {}, /found nowhere: name the acceptance journal with --journal/],
])('where-is, of an order that is %s, says so and what to do, in one sentence', (_, found, said) => {
  const sentence = sentenceOf({ ...nothing, ...found });
  expect(sentence).toMatch(said);
  expect(sentence).toMatch(/^Order o .*\.$/);
  expect(sentence.match(/\. [A-Z]/)).toBeNull();
});
