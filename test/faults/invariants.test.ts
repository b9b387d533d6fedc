import { describe, expect, test } from 'vitest';
import { checkInvariants, crashLines, type Evidence, type FoundOrder, type SentOrder } from './invariants.ts';

const order = (tag: string, orderId: string, customerId = 'C-1') => ({
  orderId,
  customerId,
  items: [{ productId: 'CD', name: 'CD', quantity: 1, unitPrice: 1177 }],
  metadata: { submission: tag },
});
const sent = (tag: string, orderId: string, overrides: Partial<SentOrder> = {}): SentOrder => ({
  tag,
  order: order(tag, orderId),
  orderIds: new Set([orderId]),
  answer: 'accepted',
  confirmed: (overrides.answer ?? 'accepted') === 'accepted' ? 1 : 0,
  oddAnswers: [],
  ...overrides,
});
const found = (tag: string, orderId: string, customerId?: string): FoundOrder => ({
  tag,
  orderId,
  order: order(tag, orderId, customerId),
});
const lookedUp = (...order: Parameters<typeof found>) => ({
  ...found(...order),
  storedAt: new Date().toISOString(),
});
const dead = (tag: string, orderId: string, reason: string | undefined) => ({
  body: `{"order":"${tag}"}`,
  reason,
  found: found(tag, orderId),
});

const rejected = (orderId: string, messageId: string, reason: string) => ({
  kind: 'REJECTED',
  orderId,
  messageId,
  reason,
});

const lines = (...orderIds: string[]) => orderIds.map((orderId) => ({ orderId }));
const journaledFor = ({ orderIds, confirmed }: SentOrder) => lines(...[...orderIds].slice(0, confirmed));

const letter = { ...dead('b2', 'id-2', 'CONFLICT'), messageId: 'm-2' };
const unreadable = { body: 'not JSON', reason: 'NOT_JSON', found: undefined };

/** One order stored, one of two that contradict each other dead-lettered, one unreadable message. */
function evidence(overrides: Partial<Evidence> = {}): Evidence {
  return {
    sent: [sent('a', 'id-1'), sent('b', 'id-2'), sent('b2', 'id-2')],
    poison: [{ body: 'not JSON', reason: 'NOT_JSON' }],
    stored: [found('a', 'id-1'), found('b', 'id-2')],
    askedFor: ['id-1', 'id-2'],
    lookedUp: [lookedUp('a', 'id-1'), lookedUp('b', 'id-2')],
    seenBy: {},
    deadLettered: [
      dead('b2', 'id-2', 'CONFLICT'),
      { body: 'not JSON', reason: 'NOT_JSON', found: undefined },
    ],
    failures: [],
    journaled: (overrides.sent ?? [sent('a', 'id-1'), sent('b', 'id-2'), sent('b2', 'id-2')]).flatMap(
      journaledFor,
    ),
    unjournaled: 0,
    queued: [],
    inFlightAfterStop: 0,
    unsettled: [],
    notReady: [],
    crashes: [],
    badEnds: [],
    openFilesGrowth: { producer: 3 },
    peakBytes: { producer: 200e6 },
    fates: [rejected('id-2', 'm-2', 'CONFLICT')],
    fatesMayBeMissing: false,
    explainedCopies: () => 0,
    interruptions: 0,
    inWork: { consumer: 20 },
    maxInWork: 120,
    starved: [],
    archived: [],
    unreadableArchives: [],
    toolFailures: [],
    unanswered: [],
    ...overrides,
  };
}
const good = evidence();
const codes = (overrides: Partial<Evidence>) => checkInvariants(evidence(overrides)).map(({ code }) => code);

describe('invariants, when all promises were kept', () => {
  test('find nothing', () => {
    expect(checkInvariants(good)).toEqual([]);
  });

  test('find nothing in what may be: unknown orders stored or not, the last ones still queued, copies in the DLQ', () => {
    const overrides = {
      sent: [
        ...good.sent,
        sent('c', 'id-3', { answer: 'unknown' }),
        sent('d', 'id-4', { answer: 'unknown', orderIds: new Set() }),
        sent('e', 'id-5'),
        sent('f', 'id-6', { answer: 'none' }),
      ],
      stored: [...good.stored, found('d', 'id-4')],
      queued: [found('e', 'id-5')],
      deadLettered: [...good.deadLettered, ...good.deadLettered],
      journaled: [...good.journaled],
      unjournaled: 1,
    };
    expect(codes(overrides)).toEqual([]);
  });

  test('find nothing in an order of the DLQ whose rejection is recorded, or whose consumer could not record it', () => {
    const deadLettered = [letter, unreadable];
    expect(codes({ deadLettered })).toEqual([]);
    expect(codes({ deadLettered, fates: [], fatesMayBeMissing: true })).toEqual([]);
  });
});

describe('invariants, of orders that clients placed', () => {
  const mine = { clientId: 'shop-a' };
  const placed = {
    sent: good.sent.map((each) => ({ ...each, ...mine })),
    stored: good.stored.map((each) => ({ ...each, ...mine })),
    deadLettered: [{ ...letter, found: { ...letter.found, ...mine } }, unreadable],
    journaled: good.journaled.map((line) => ({ ...line, ...mine, messageId: 'm-1' })),
    seenBy: { 'shop-a': [found('a', 'id-1'), found('b', 'id-2')], 'shop-b': [] },
  };
  const [first, ...others] = placed.stored as [FoundOrder, ...FoundOrder[]];
  const [line, ...lines] = placed.journaled as [(typeof placed.journaled)[number]];

  test('find nothing where each order is said to be that of its client, and seen by that one alone', () => {
    expect(codes(placed)).toEqual([]);
  });

  test.each<[string, Partial<Evidence>, string[]]>([
    ['a client does not see its own order', { seenBy: { 'shop-a': [found('a', 'id-1')] } }, ['WRONG_CLIENT']],
    [
      "a client sees another's order",
      { seenBy: { ...placed.seenBy, 'shop-b': [found('a', 'id-1')] } },
      ['WRONG_CLIENT'],
    ],
    [
      "an order is stored as no client's",
      { stored: [{ ...first, clientId: undefined }, ...others], seenBy: {} },
      ['WRONG_CLIENT'],
    ],
    [
      "an order is dead-lettered as another's",
      { deadLettered: [{ ...letter, found: { ...letter.found, clientId: 'shop-b' } }, unreadable] },
      ['WRONG_CLIENT'],
    ],
    [
      "an order is journaled as another's, in a message of its own",
      { journaled: [{ ...line, clientId: 'shop-b', messageId: 'm-2' }, ...lines] },
      ['WRONG_CLIENT'],
    ],
    [
      'one message has orders of two clients',
      {
        ...placed,
        sent: placed.sent.map((each, index) => (index === 0 ? { ...each, clientId: 'shop-b' } : each)),
        stored: [{ ...first, clientId: 'shop-b' }, ...others],
        journaled: [{ ...line, clientId: 'shop-b' }, ...lines],
        seenBy: {},
      },
      ['CLIENTS_MIXED'],
    ],
  ])('when %s, find it', (_what, overrides, expected) => {
    expect(codes({ ...placed, ...overrides })).toEqual(expected);
  });
});

describe('invariants, of orders that the database refuses', () => {
  const refused = {
    sent: [
      ...good.sent,
      sent('ever', 'id-7', { refused: 'for ever' }),
      sent('once', 'id-8', { refused: 'once' }),
    ],
    stored: [...good.stored, found('once', 'id-8')],
    failures: ['id-7', 'id-8'].map((orderId) => ({ orderId, messageId: `message of ${orderId}` })),
  };
  const givenUp = { ...dead('ever', 'id-7', 'MAX_FAILURES'), failures: 5, attempts: 6 };

  test('find nothing when one failed as often as it may, and the other was stored', () => {
    expect(codes({ ...refused, deadLettered: [...good.deadLettered, givenUp] })).toEqual([]);
  });

  test.each<[string, Partial<Evidence>, string[]]>([
    ['is nowhere', {}, ['LOST']],
    [
      'was given up too soon',
      { deadLettered: [...good.deadLettered, { ...givenUp, failures: 4 }] },
      ['WRONGLY_DEAD_LETTERED'],
    ],
    [
      'was moved by SQS itself',
      { deadLettered: [...good.deadLettered, dead('ever', 'id-7', undefined)] },
      ['WRONGLY_DEAD_LETTERED'],
    ],
    [
      'was given up though it is let through now',
      {
        stored: good.stored,
        deadLettered: [
          ...good.deadLettered,
          givenUp,
          { ...dead('once', 'id-8', 'MAX_FAILURES'), failures: 5, attempts: 5 },
        ],
      },
      ['WRONGLY_DEAD_LETTERED'],
    ],
    [
      'has no failure',
      { deadLettered: [...good.deadLettered, givenUp], failures: refused.failures.slice(1) },
      ['WRONGLY_FAILED'],
    ],
    [
      'is another one',
      {
        deadLettered: [...good.deadLettered, givenUp],
        failures: [...refused.failures, { orderId: 'id-1', messageId: 'm' }],
      },
      ['WRONGLY_FAILED'],
    ],
  ])('when the one that failed %s, say so', (_what, overrides, expected) => {
    expect(codes({ ...refused, ...overrides })).toEqual(expected);
  });
});

describe('invariants, when a promise was broken', () => {
  test.each<[string, Partial<Evidence>, string[]]>([
    ['an accepted order is nowhere', { stored: [found('b', 'id-2')], askedFor: [] }, ['LOST']],
    [
      'the loser of a conflict is nowhere',
      { deadLettered: good.deadLettered.filter(({ found }) => !found) },
      ['LOST'],
    ],
    [
      'an unreadable message is nowhere',
      { deadLettered: good.deadLettered.filter(({ found }) => found) },
      ['LOST'],
    ],
    [
      'an order has two rows of one id',
      { stored: [...good.stored, found('a', 'id-1')] },
      ['STORED_TWICE', 'STORED_TWICE'],
    ],
    [
      'an order has two rows of different ids',
      {
        sent: [sent('a', 'id-1', { orderIds: new Set(['id-1', 'id-9']) }), ...good.sent.slice(1)],
        stored: [...good.stored, found('a', 'id-9')],
      },
      ['STORED_TWICE'],
    ],
    ['an order is stored that nobody sent', { stored: [...good.stored, found('x', 'id-7')] }, ['NOT_SENT']],
    [
      'an order is stored that was refused',
      {
        sent: [...good.sent, sent('c', 'id-3', { answer: 'refused' })],
        stored: [...good.stored, found('c', 'id-3')],
      },
      ['NOT_SENT'],
    ],
    [
      'an unreadable message is in the DLQ that nobody sent',
      { deadLettered: [...good.deadLettered, { body: 'x', reason: 'NOT_JSON', found: undefined }] },
      ['NOT_SENT'],
    ],
    [
      'a stored order is not what was sent',
      { stored: [found('a', 'id-1', 'C-2'), found('b', 'id-2')], askedFor: [] },
      ['ALTERED'],
    ],
    ['a queued order is not what was sent', { queued: [found('a', 'id-1', 'C-2')] }, ['ALTERED']],
    [
      'an order is in the DLQ for an outage',
      {
        sent: [...good.sent, sent('c', 'id-3', { answer: 'unknown' })],
        deadLettered: [...good.deadLettered, dead('c', 'id-3', 'MAX_FAILURES')],
      },
      ['WRONGLY_DEAD_LETTERED'],
    ],
    [
      'a conflict is in the DLQ without its reason',
      { deadLettered: [dead('b2', 'id-2', undefined), ...good.deadLettered.slice(1)] },
      ['WRONGLY_DEAD_LETTERED'],
    ],
    [
      'a stored order is in the DLQ as well',
      { deadLettered: [...good.deadLettered, dead('b', 'id-2', 'CONFLICT')] },
      ['WRONGLY_DEAD_LETTERED'],
    ],
    [
      'an unreadable message has another reason',
      {
        deadLettered: [
          dead('b2', 'id-2', 'CONFLICT'),
          { body: 'not JSON', reason: 'INVALID_ORDER', found: undefined },
        ],
      },
      ['WRONGLY_DEAD_LETTERED'],
    ],
    [
      'the store knows nothing of an order in the DLQ',
      { deadLettered: [letter, unreadable], fates: [] },
      ['WRONG_FATE'],
    ],
    [
      'the store has another reason for an order in the DLQ',
      { deadLettered: [letter, unreadable], fates: [rejected('id-2', 'm-2', 'INVALID_ORDER')] },
      ['WRONG_FATE'],
    ],
    [
      'an order that nothing is wrong with is said to be rejected',
      { fates: [rejected('id-1', 'm-1', 'CONFLICT')], fatesMayBeMissing: true },
      ['WRONG_FATE'],
    ],
    ['GET knows nothing of a stored order', { lookedUp: [lookedUp('a', 'id-1')] }, ['LOOK_UP_DIFFERS']],
    [
      'GET answers another order',
      { lookedUp: [lookedUp('a', 'id-1', 'C-2'), lookedUp('b', 'id-2')] },
      ['LOOK_UP_DIFFERS'],
    ],
    ...['1970-01-01T00:00:00.000Z', 'Invalid Date'].map((storedAt): [string, Partial<Evidence>, string[]] => [
      `GET says of an order of today that it was stored at ${storedAt}`,
      { lookedUp: [{ ...lookedUp('a', 'id-1'), storedAt }, lookedUp('b', 'id-2')] },
      ['LOOK_UP_DIFFERS'],
    ]),
    ['a message stays in the queue', { unsettled: ['order queue: 1 in flight'] }, ['NOT_SETTLED']],
    ['a service is not ready again', { notReady: ['consumer'] }, ['NOT_READY']],
    ['messages are in flight after the stop', { inFlightAfterStop: 1 }, ['NOT_DRAINED']],
    ['a service crashed', { crashes: ['consumer: FATAL'] }, ['CRASHED']],
    ['a service did not end well', { badEnds: ['consumer ended with status 1'] }, ['BAD_STOP']],
    ['an accepted order has no line in the journal', { journaled: lines('id-2', 'id-2') }, ['NOT_JOURNALED']],
    [
      'of two orders accepted with one id, one has a line',
      { journaled: lines('id-1', 'id-2') },
      ['NOT_JOURNALED'],
    ],
    [
      'more orders have no line than the producer knows of',
      { journaled: lines('id-2'), unjournaled: 1 },
      ['NOT_JOURNALED', 'NOT_JOURNALED'],
    ],
    ['open files grow', { openFilesGrowth: { consumer: 31 } }, ['LEAK']],
    [
      'a client was answered with 500',
      { sent: [sent('a', 'id-1', { oddAnswers: [500] }), ...good.sent.slice(1)] },
      ['ODD_ANSWER'],
    ],
    ['a consumer takes more than it may', { inWork: { consumer: 121 } }, ['OVER_LIMIT']],
    ['a process has much memory at its peak', { peakBytes: { consumer: 421e6 } }, ['TOO_MUCH_MEMORY']],
    ['a good order waits', { starved: ['a'] }, ['STARVED']],
    ['an archive is cut', { unreadableArchives: ['unexpected end of file'] }, ['ARCHIVE_UNREADABLE']],
    ['a redrive does not end', { toolFailures: ['a redrive did not end'] }, ['TOOL_FAILED']],
    ['a client gets no answer', { unanswered: ['POST /orders got no answer'] }, ['UNANSWERED']],
    [
      'an archived order is not what was stored',
      {
        sent: [...good.sent, sent('old', 'id-9', { storedLongAgo: true, confirmed: 0 })],
        archived: [found('old', 'id-9', 'C-2')],
      },
      ['ALTERED'],
    ],
  ])('when %s, say so', (_what, overrides, expected) => {
    expect(codes(overrides)).toEqual(expected);
  });

  test('an order that was archived is not lost', () => {
    const overrides = {
      sent: [...good.sent, sent('old', 'id-9', { storedLongAgo: true, confirmed: 0 })],
      archived: [found('old', 'id-9'), found('old', 'id-9')],
    };
    expect(codes(overrides)).toEqual([]);
  });
});

describe('invariants, of copies in the DLQ', () => {
  const copy = (messageId: string) => ({ ...dead('b2', 'id-2', 'CONFLICT'), messageId });
  const letters = good.deadLettered.slice(1);
  const sentIn = (carrier: string) => [...good.sent.slice(0, 2), sent('b2', 'id-2', { carrier })];

  test.each<[string, Partial<Evidence>, string[]]>([
    ['two of one message', { deadLettered: [copy('m'), copy('m'), ...letters] }, ['DEAD_LETTERED_TWICE']],
    ['one each of two messages', { deadLettered: [copy('m'), copy('n'), ...letters] }, []],
    [
      'two of one message, about which a request failed',
      { deadLettered: [copy('m'), copy('m'), ...letters], explainedCopies: (id) => Number(id === 'm') },
      [],
    ],
    [
      'three of one message, and a consumer that died',
      { deadLettered: [copy('m'), copy('m'), copy('m'), ...letters], interruptions: 1 },
      ['DEAD_LETTERED_TWICE'],
    ],
    [
      'one each of two messages, of an order that was sent in one only',
      { sent: sentIn('packed'), deadLettered: [copy('m'), copy('n'), ...letters] },
      ['DEAD_LETTERED_TWICE'],
    ],
    [
      'the same, where a request about that one failed',
      {
        sent: sentIn('packed'),
        deadLettered: [copy('m'), copy('n'), ...letters],
        explainedCopies: (id) => Number(id === 'packed'),
      },
      [],
    ],
  ])('find in %s what is not explained', (_what, overrides, expected) => {
    expect(codes({ journaled: good.journaled, fatesMayBeMissing: true, ...overrides })).toEqual(expected);
  });
});

describe('crashLines', () => {
  test('finds FATAL lines and what is no log line, and passes over a start that failed for want of SQS', () => {
    const log = [
      '{"level":"ERROR","message":"breaker opened"}',
      'order-consumer: cannot work with http://127.0.0.1:1: ECONNREFUSED: connect',
      '{"level":"FATAL","message":"service failed"}',
      'node:internal/process/promises:394',
      '',
    ].join('\n');
    expect(crashLines('consumer', log)).toEqual([
      'consumer: {"level":"FATAL","message":"service failed"}',
      'consumer: node:internal/process/promises:394',
    ]);
  });
});
