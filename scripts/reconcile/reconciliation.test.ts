import { randomUUID } from 'node:crypto';
import type { StoredOrderId } from '@orders/consumer/adapters/order-ids.ts';
import { describe, expect, it } from 'vitest';
import { type DeadLetterRef, type Depths, type ReconcileOptions, reconcile } from './reconciliation.ts';

async function* inPages<T>(items: T[]): AsyncGenerator<T[]> {
  for (let at = 0; at < items.length; at += 100) yield items.slice(at, at + 100);
}
const lineOf = (
  orderId: string,
  acceptedAtMs = 1_000,
  messageId: string = randomUUID(),
  content: string | undefined = undefined,
  clientId?: string,
) =>
  JSON.stringify({
    journal: 'accepted',
    orderId,
    acceptedAt: new Date(acceptedAtMs),
    messageId,
    traceId: '',
    content: content?.slice(0, 19),
    clientId,
  });
const CONTENT = `v1:${'a'.repeat(64)}`;
const OTHER_CONTENT = `v1:${'b'.repeat(64)}`;
const rowOf = (
  orderId: string,
  contentHash = CONTENT,
  storedAtMs = 1_000,
  clientId?: string,
): StoredOrderId => ({
  orderId,
  storedAtMs,
  contentHash,
  clientId,
});
const letterOf = (
  orderIds: string[],
  reason: string,
  contentHash = CONTENT,
  clientId?: string,
): DeadLetterRef => ({
  orders: orderIds.map((orderId) => ({ orderId, contentHash, clientId })),
  messageId: randomUUID(),
  unreadable: 0,
  reason,
});
const ids = (count: number) => Array.from({ length: count }, () => randomUUID() as string);

const archivesOf = (archived: StoredOrderId[]) => ({
  orders: () => inPages(archived),
  counts: { files: 1, orders: archived.length, garbled: 0, unreadableBytes: 0 },
});

function subject(options: Partial<ReconcileOptions> = {}) {
  const state = {
    lines: [] as string[],
    rows: [] as StoredOrderId[],
    archived: undefined as StoredOrderId[] | undefined,
    letters: [] as DeadLetterRef[],
    depths: [] as Depths[],
    lookedIntoDeadLetters: 0,
  };
  const run = () =>
    reconcile(
      {
        journal: inPages(state.lines),
        stored: () => inPages(state.rows),
        archives: state.archived && archivesOf(state.archived),
        deadLetters: () => {
          state.lookedIntoDeadLetters++;
          return inPages(state.letters);
        },
        depths: async () => state.depths.shift() ?? { queue: 0, deadLetterQueue: state.letters.length },
      },
      { settleMs: 0, list: 10, ...options },
    );
  return { state, run };
}

describe('reconcile', () => {
  it('reconcile, of many orders in any order, finds exactly what is missing, extra and twice', async () => {
    const { state, run } = subject({ list: 1_000 });
    const all = ids(30_000);
    const [missing, extra, twice] = [all.slice(0, 7), all.slice(7, 20), all.slice(20, 25)];
    state.lines = all.filter((id) => !extra.includes(id)).map((id) => lineOf(id));
    state.rows = [
      ...all
        .filter((id) => !missing.includes(id))
        .reverse()
        .map((id) => rowOf(id)),
      ...twice.map((id) => rowOf(id.toUpperCase())),
    ];
    const report = await run();
    expect(report).toMatchObject({
      accepted: 29_987,
      stored: 29_980,
      missing: 7,
      storedNeverAccepted: 13,
      storedTwice: 5,
      store: { orders: 29_998 },
    });
    expect(report.orders.missing.map(({ orderId }) => orderId).sort()).toEqual(missing.sort());
    expect(report.orders.storedNeverAccepted.sort()).toEqual(extra.sort());
    expect(report.orders.storedTwice.sort()).toEqual(twice.sort());
  });

  it('reconcile, of ids that somebody chose one after the other, spreads and finds them', async () => {
    const { state, run } = subject();
    const chosen = Array.from(
      { length: 20_000 },
      (_, n) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`,
    );
    state.lines = chosen.map((id) => lineOf(id));
    state.rows = chosen.slice(1).map((id) => rowOf(id));
    expect((await run()).orders.missing).toMatchObject([{ orderId: chosen[0] }]);
  });

  it('reconcile, of one order that was accepted very often, finds each of its messages in no time', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    state.lines = Array.from({ length: 100_000 }, () => lineOf(id));
    state.lines.push(...state.lines.slice(0, 10));
    const { messageId } = JSON.parse(state.lines[70_000] as string);
    state.letters = [{ orders: [], messageId, unreadable: 1, reason: 'NOT_JSON' }];
    expect(await run()).toMatchObject({
      accepted: 1,
      acceptedAgain: 1,
      deadLettered: 1,
      journal: { lines: 100_010, repeated: 10 },
    });
  });

  it('reconcile, when all is stored, leaves the dead-letter queue alone', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    state.lines = [lineOf(id)];
    state.rows = [rowOf(id)];
    state.letters = [letterOf([randomUUID()], 'INVALID_ORDER')];
    const report = await run();
    expect(report).toMatchObject({ stored: 1, deadLetterQueue: { messages: 1, notSeen: 1 } });
    expect(state.lookedIntoDeadLetters).toBe(0);
  });

  it.each<[string, Depths[]]>([
    ['before the store was read', [{ queue: 1, deadLetterQueue: 0 }]],
    [
      'after it was read',
      [
        { queue: 0, deadLetterQueue: 0 },
        { queue: 1, deadLetterQueue: 0 },
      ],
    ],
    [
      'when the dead letters were read',
      [
        { queue: 0, deadLetterQueue: 0 },
        { queue: 0, deadLetterQueue: 0 },
        { queue: 1, deadLetterQueue: 0 },
      ],
    ],
    ['but there is a dead letter that others hold', [{ queue: 0, deadLetterQueue: 1 }]],
  ])('reconcile, of an order found nowhere, with a message there %s, cannot tell', async (_when, depths) => {
    const { state, run } = subject();
    state.lines = ids(2).map((id) => lineOf(id));
    state.depths = depths;
    expect(await run()).toMatchObject({ missing: 0, unresolved: 2 });
  });

  it('reconcile, of a packed dead letter and others that somebody holds, cannot tell', async () => {
    const { state, run } = subject();
    const [found, other] = ids(2) as [string, string];
    state.lines = [found, other].map((id) => lineOf(id));
    state.letters = [letterOf([found, ...ids(99)], 'MAX_FAILURES')];
    state.depths = Array(3).fill({ queue: 0, deadLetterQueue: 5 });
    expect(await run()).toMatchObject({
      deadLettered: 1,
      missing: 0,
      unresolved: 1,
      deadLetterQueue: { messages: 5, notSeen: 4 },
    });
  });

  it('reconcile, of a packed message of which one order is a dead letter, misses the others', async () => {
    const { state, run } = subject();
    const packed = ids(100);
    const messageId = randomUUID();
    state.lines = packed.map((id) => lineOf(id, 1_000, messageId));
    state.rows = packed.slice(3).map((id) => rowOf(id));
    state.letters = [{ ...letterOf(packed.slice(0, 1), 'INVALID_ORDER'), messageId }];
    expect(await run()).toMatchObject({ stored: 97, deadLettered: 1, missing: 2 });
  });

  it('reconcile, of a packed message with dead letters that cannot be read, accounts for as many orders', async () => {
    const { state, run } = subject();
    const packed = ids(100);
    const messageId = randomUUID();
    state.lines = packed.map((id) => lineOf(id, 1_000, messageId));
    state.rows = packed.slice(5).map((id) => rowOf(id));
    const unreadable = (count: number) => ({
      orders: [],
      messageId,
      unreadable: count,
      reason: 'NOT_JSON',
    });
    state.letters = [unreadable(1), unreadable(1)];
    expect(await run()).toMatchObject({ stored: 95, deadLettered: 2, missing: 3 });
    state.letters = [unreadable(100)];
    expect(await run()).toMatchObject({ stored: 95, deadLettered: 5, missing: 0 });
  });

  it('reconcile, where counts lag, cannot tell of an order that was accepted just now', async () => {
    const { state, run } = subject({ settleMs: 60_000 });
    const [old, young] = ids(2) as [string, string];
    state.lines = [lineOf(old, Date.now() - 61_000), lineOf(young, Date.now() - 50_000)];
    expect(await run()).toMatchObject({
      missing: 1,
      unresolved: 1,
      orders: { missing: [{ orderId: old }], unresolved: [{ orderId: young }] },
    });
  });

  it('reconcile, of what is stored while it runs, does not call it never accepted', async () => {
    const { state, run } = subject();
    state.rows = [rowOf(randomUUID(), CONTENT, Date.now() + 1_000)];
    expect(await run()).toMatchObject({ storedNeverAccepted: 0, store: { orders: 1 } });
  });

  it('reconcile, of more than it may list, counts all', async () => {
    const { state, run } = subject({ list: 3 });
    state.lines = ids(10).map((id) => lineOf(id));
    const report = await run();
    expect(report.missing).toBe(10);
    expect(report.orders.missing).toHaveLength(3);
  });

  it('reconcile, of a second order under one id that is nowhere, misses it and not the first', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    const [first, second] = ids(2) as [string, string];
    state.lines = [lineOf(id, 1_000, first, CONTENT), lineOf(id, 2_000, second, OTHER_CONTENT)];
    state.rows = [rowOf(id)];
    const report = await run();
    expect(report).toMatchObject({ accepted: 2, otherContent: 1, acceptedAgain: 0, stored: 1, missing: 1 });
    expect(report.orders.missing).toMatchObject([{ messageId: second, content: OTHER_CONTENT.slice(0, 19) }]);
  });

  it.each([
    ['as a conflict', 'CONFLICT', OTHER_CONTENT, { deadLettered: 1, missing: 0 }],
    ['as what cannot be stored', 'ORDER_NOT_STORABLE', OTHER_CONTENT, { deadLettered: 1, missing: 0 }],
    ['not, but the first is', 'CONFLICT', CONTENT, { deadLettered: 0, missing: 1 }],
  ])(
    'reconcile, of a second order under one id that is dead-lettered %s, tells',
    async (_how, reason, content, expected) => {
      const { state, run } = subject();
      const [id] = ids(1) as [string];
      state.lines = [CONTENT, OTHER_CONTENT].map((each) => lineOf(id, 1_000, randomUUID(), each));
      state.rows = [rowOf(id)];
      state.letters = [letterOf([id], reason, content)];
      expect(await run()).toMatchObject({ accepted: 2, stored: 1, ...expected });
    },
  );

  it('reconcile, of an order under whose id another one is stored, misses it', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    state.lines = [lineOf(id, 1_000, randomUUID(), OTHER_CONTENT)];
    state.rows = [rowOf(id)];
    expect(await run()).toMatchObject({ accepted: 1, stored: 0, missing: 1 });
  });

  it.each([
    ['an earlier release wrote without content', [undefined, undefined]],
    ['two releases wrote', [undefined, CONTENT]],
    ['two releases wrote, the newer one first', [CONTENT, undefined]],
  ])('reconcile, of an order sent twice that %s, finds it stored', async (_how, contents) => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    state.lines = contents.map((content) => lineOf(id, 1_000, randomUUID(), content));
    state.rows = [rowOf(id)];
    expect(await run()).toMatchObject({ accepted: 1, acceptedAgain: 1, stored: 1, otherContent: 0 });
  });

  it('reconcile, of a line without content and a conflict that lost against an order that is gone, misses it', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    state.lines = [lineOf(id)];
    state.letters = [letterOf([id], 'CONFLICT')];
    expect(await run()).toMatchObject({ accepted: 1, deadLettered: 0, missing: 1 });
  });

  it('reconcile, of very many orders under one id, tells them apart in no time', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    const contentOf = (n: number) => `v1:${n.toString(16).padStart(16, '0')}`;
    state.lines = Array.from({ length: 20_000 }, (_, n) => lineOf(id, 1_000, randomUUID(), contentOf(n)));
    state.rows = [rowOf(id, contentOf(12_000))];
    state.letters = [letterOf([id], 'CONFLICT', contentOf(19_999))];
    expect(await run()).toMatchObject({ accepted: 20_000, stored: 1, deadLettered: 1, missing: 19_998 });
  });

  it('reconcile, of orders that left the store, finds them in archives, by id and content', async () => {
    const { state, run } = subject();
    const [stored, archived, both, other] = ids(4) as [string, string, string, string];
    state.lines = [stored, archived, both, other].map((id) => lineOf(id, 1_000, randomUUID(), CONTENT));
    state.rows = [stored, both].map((id) => rowOf(id));
    // PostgreSQL has microseconds, of which the archive knows nothing.
    state.archived = [rowOf(archived), rowOf(both, CONTENT, 999.2), rowOf(other, OTHER_CONTENT)];
    expect(await run()).toMatchObject({
      accepted: 4,
      stored: 2,
      archived: 1,
      missing: 1,
      storedAgain: 0,
      storedTwice: 0,
      orders: { missing: [{ orderId: other }] },
    });
  });

  it('reconcile, of an order that was stored again when it had been archived, tells', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    state.lines = [lineOf(id)];
    state.rows = [rowOf(id, CONTENT, 9_000)];
    state.archived = [rowOf(id), rowOf(id)];
    expect(await run()).toMatchObject({ stored: 1, storedAgain: 1, orders: { storedAgain: [id] } });
  });

  it('reconcile, of what is older than the store keeps, calls it perhaps archived, and what is younger missing', async () => {
    const { state, run } = subject({ keptSinceMs: 5_000 });
    const [old, young] = ids(2) as [string, string];
    state.lines = [lineOf(old, 4_999), lineOf(young, 5_000)];
    expect(await run()).toMatchObject({
      maybeArchived: 1,
      missing: 1,
      orders: { missing: [{ orderId: young }] },
    });
  });

  it('reconcile, of accepted orders whose dead letters are encrypted, finds them by their readable ids, and a conflict by its message too', async () => {
    const { state, run } = subject();
    const [dead, conflict, lost, missing] = ids(4) as [string, string, string, string];
    const [message] = ids(1) as [string];
    state.lines = [dead, lost, missing].map((id) => lineOf(id, 1_000, randomUUID(), CONTENT));
    state.lines.push(lineOf(conflict, 1_000, message, CONTENT));
    const encrypted = (orderId: string, reason: string, messageId: string = randomUUID()): DeadLetterRef => ({
      ...letterOf([], reason),
      encrypted: [orderId],
      messageId,
    });
    state.letters = [
      encrypted(dead, 'INVALID_ORDER'),
      encrypted(conflict, 'CONFLICT', message),
      // Of another message with its id: the one that was accepted is not there.
      encrypted(lost, 'CONFLICT'),
    ];
    expect(await run()).toMatchObject({ accepted: 4, deadLettered: 2 });
  });
});

describe('reconcile, of two clients that ordered the same under one id', () => {
  const [orderId] = ids(1) as [string];
  const lines = ['shop-a', 'shop-b'].map((client) => lineOf(orderId, 1_000, undefined, CONTENT, client));
  const row = rowOf(orderId, CONTENT, 1_000, 'shop-a');
  const letter = (clientId?: string) => letterOf([orderId], 'CONFLICT', CONTENT, clientId);

  it('reconcile, where one is stored and the other nowhere, finds the other missing', async () => {
    const { state, run } = subject();
    Object.assign(state, { lines, rows: [row] });
    const report = await run();
    expect(report).toMatchObject({ accepted: 2, stored: 1, missing: 1, otherContent: 1, acceptedAgain: 0 });
    expect(report.orders.missing).toMatchObject([{ orderId }]);
  });

  it.each([
    ['stored', { rows: [row], letters: [letter('shop-b')] }, { stored: 1, deadLettered: 1, missing: 0 }],
    [
      'stored, and the dead letter is its own copy',
      { rows: [row], letters: [letter('shop-a')] },
      { stored: 1, deadLettered: 0, missing: 1 },
    ],
    [
      'archived',
      { archived: [row], letters: [letter('shop-b')] },
      { archived: 1, deadLettered: 1, missing: 0 },
    ],
    [
      'gone, and the other dead-lettered',
      { letters: [letter('shop-b')] },
      { stored: 0, deadLettered: 1, missing: 1 },
    ],
  ])('reconcile, where one is %s, tells the two apart', async (_where, found, expected) => {
    const { state, run } = subject();
    Object.assign(state, { lines, ...found });
    expect(await run()).toMatchObject({ accepted: 2, ...expected });
  });

  it.each([
    ['the journal does not say whose it was', undefined, 'shop-a'],
    ['the store does not', 'shop-a', undefined],
  ])('reconcile, where %s, takes the content for enough', async (_what, accepted, stored) => {
    const { state, run } = subject();
    state.lines = [lineOf(orderId, 1_000, undefined, CONTENT, accepted)];
    state.rows = [rowOf(orderId, CONTENT, 1_000, stored)];
    expect(await run()).toMatchObject({ accepted: 1, stored: 1, missing: 0 });
    state.rows = [];
    state.letters = [letter(stored)];
    expect(await run()).toMatchObject({ accepted: 1, deadLettered: 1, missing: 0 });
  });
});
