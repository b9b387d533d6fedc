import { randomUUID } from 'node:crypto';
import type { StoredOrderId } from '@orders/consumer/adapters/order-ids.ts';
import { describe, expect, it } from 'vitest';
import { type DeadLetterRef, type Depths, type ReconcileOptions, reconcile } from './reconciliation.ts';

async function* inPages<T>(items: T[]): AsyncGenerator<T[]> {
  for (let at = 0; at < items.length; at += 100) yield items.slice(at, at + 100);
}
const lineOf = (orderId: string, acceptedAtMs = 1_000, messageId: string = randomUUID()) =>
  JSON.stringify({
    journal: 'accepted',
    orderId,
    acceptedAt: new Date(acceptedAtMs),
    messageId,
    traceId: '',
  });
const rowOf = (orderId: string): StoredOrderId => ({ orderId, storedAtMs: 1_000 });
const ids = (count: number) => Array.from({ length: count }, () => randomUUID() as string);

function subject(options: Partial<ReconcileOptions> = {}) {
  const state = {
    lines: [] as string[],
    rows: [] as StoredOrderId[],
    letters: [] as DeadLetterRef[],
    depths: [] as Depths[],
    lookedIntoDeadLetters: 0,
  };
  const run = () =>
    reconcile(
      {
        journal: inPages(state.lines),
        stored: () => inPages(state.rows),
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
        .map(rowOf),
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
    state.rows = chosen.slice(1).map(rowOf);
    expect((await run()).orders.missing).toMatchObject([{ orderId: chosen[0] }]);
  });

  it('reconcile, of one order that was accepted very often, finds each of its messages in no time', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    state.lines = Array.from({ length: 100_000 }, () => lineOf(id));
    state.lines.push(...state.lines.slice(0, 10));
    const { messageId } = JSON.parse(state.lines[70_000] as string);
    state.letters = [{ orderIds: [], messageId, unreadable: 1, reason: 'NOT_JSON' }];
    expect(await run()).toMatchObject({
      accepted: 1,
      acceptedAgain: 1,
      deadLettered: 1,
      journal: { lines: 100_010, repeated: 10 },
    });
  }, 10_000);

  it('reconcile, when all is stored, leaves the dead-letter queue alone', async () => {
    const { state, run } = subject();
    const [id] = ids(1) as [string];
    state.lines = [lineOf(id)];
    state.rows = [rowOf(id)];
    state.letters = [
      { orderIds: [randomUUID()], messageId: randomUUID(), unreadable: 0, reason: 'INVALID_ORDER' },
    ];
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
    state.letters = [
      { orderIds: [found, ...ids(99)], messageId: randomUUID(), unreadable: 0, reason: 'MAX_FAILURES' },
    ];
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
    state.rows = packed.slice(3).map(rowOf);
    state.letters = [{ orderIds: packed.slice(0, 1), messageId, unreadable: 0, reason: 'INVALID_ORDER' }];
    expect(await run()).toMatchObject({ stored: 97, deadLettered: 1, missing: 2 });
  });

  it('reconcile, of a packed message with dead letters that cannot be read, accounts for as many orders', async () => {
    const { state, run } = subject();
    const packed = ids(100);
    const messageId = randomUUID();
    state.lines = packed.map((id) => lineOf(id, 1_000, messageId));
    state.rows = packed.slice(5).map(rowOf);
    const unreadable = (count: number) => ({
      orderIds: [],
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
    state.rows = [{ orderId: randomUUID(), storedAtMs: Date.now() + 1_000 }];
    expect(await run()).toMatchObject({ storedNeverAccepted: 0, store: { orders: 1 } });
  });

  it('reconcile, of more than it may list, counts all', async () => {
    const { state, run } = subject({ list: 3 });
    state.lines = ids(10).map((id) => lineOf(id));
    const report = await run();
    expect(report.missing).toBe(10);
    expect(report.orders.missing).toHaveLength(3);
  });
});
