import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { Batcher, type BatcherOptions } from './batcher.ts';

type Running = {
  items: string[];
  answer: (results: (string | Error)[]) => void;
  fail: (error: unknown) => void;
};

/** A batcher whose batches run until the test answers them. */
function manualBatcher(options: Partial<BatcherOptions<string, string>> = {}) {
  const running: Running[] = [];
  const batcher = new Batcher<string, string>({
    execute: (items) => new Promise((answer, fail) => running.push({ items, answer, fail })),
    maxEntries: 3,
    maxInFlight: 2,
    lingerMs: 5,
    ...options,
  });
  return {
    batcher,
    running,
    batches: () => running.map(({ items }) => items.join('')),
    addAll: (items: string) => [...items].map((item) => batcher.add(item)),
  };
}

/** The rest of this turn of the event loop, and what follows from it at once. */
const turn = () => vi.advanceTimersByTimeAsync(0);

describe('Batcher', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('Batcher, when idle, sends an item at once and returns its result', async () => {
    const { batcher, running, batches } = manualBatcher({ lingerMs: 60_000 });
    const result = batcher.add('a');
    await turn();
    expect(batches()).toEqual(['a']);
    running[0]?.answer(['A']);
    expect(await result).toBe('A');
  });

  it('Batcher, when idle, puts all items of one turn of the event loop into one batch', async () => {
    const { batches, addAll } = manualBatcher();
    addAll('ab');
    await turn();
    expect(batches()).toEqual(['ab']);
  });

  it('Batcher, while a batch is under way, lets an item wait for others until the linger time is over', async () => {
    const { batches, addAll } = manualBatcher();
    addAll('a');
    await turn();
    addAll('b');
    await vi.advanceTimersByTimeAsync(3);
    addAll('c');
    await vi.advanceTimersByTimeAsync(1);
    expect(batches()).toEqual(['a']);
    await vi.advanceTimersByTimeAsync(1);
    expect(batches()).toEqual(['a', 'bc']);
  });

  it('Batcher, while a batch is under way, sends a full batch without lingering', async () => {
    const { batches, addAll } = manualBatcher();
    addAll('a');
    await turn();
    addAll('bcd');
    await turn();
    expect(batches()).toEqual(['a', 'bcd']);
  });

  it('Batcher, when the batch under way ends, sends what waits without lingering', async () => {
    const { running, batches, addAll } = manualBatcher({ lingerMs: 60_000 });
    addAll('a');
    await turn();
    addAll('b');
    await turn();
    expect(batches()).toEqual(['a']);
    running[0]?.answer(['A']);
    await turn();
    expect(batches()).toEqual(['a', 'b']);
  });

  it('Batcher, with as many batches under way as may, sends nothing more, and full batches afterwards', async () => {
    const { running, batches, addAll } = manualBatcher();
    addAll('abcdef');
    await turn();
    addAll('ghijklm');
    await vi.advanceTimersByTimeAsync(1_000);
    expect(batches()).toEqual(['abc', 'def']);
    running[0]?.answer(['', '', '']);
    await turn();
    expect(batches()).toEqual(['abc', 'def', 'ghi']);
    running[1]?.answer(['', '', '']);
    await turn();
    expect(batches()).toEqual(['abc', 'def', 'ghi', 'jkl']);
  });

  it.each([
    ['to the byte', [4, 3, 3], [3]],
    ['one byte more', [4, 3, 4], [2, 1]],
    ['one item larger than all', [11, 1], [1, 1]],
  ])('Batcher, with items that fill the limit: %s', async (_what, sizes, expected) => {
    const counts: number[] = [];
    const batcher = new Batcher<number, number>({
      execute: async (items) => {
        counts.push(items.length);
        return items;
      },
      maxEntries: 10,
      maxBytes: 10,
      sizeOf: (size) => size,
      maxInFlight: 1,
      lingerMs: 0,
    });
    const results = Promise.all(sizes.map((size) => batcher.add(size)));
    await vi.runAllTimersAsync();
    expect(await results).toEqual(sizes);
    expect(counts).toEqual(expected);
  });

  it('Batcher, when a later batch ends first, gives each caller its own result', async () => {
    const { running, addAll } = manualBatcher();
    const results = addAll('abcdef');
    await turn();
    running[1]?.answer(['D', 'E', 'F']);
    running[0]?.answer(['A', 'B', 'C']);
    expect(await Promise.all(results)).toEqual(['A', 'B', 'C', 'D', 'E', 'F']);
  });

  it('Batcher, when one item of a batch fails, rejects that one only', async () => {
    const { running, addAll } = manualBatcher();
    const results = Promise.allSettled(addAll('abc'));
    await turn();
    const refused = new Error('refused');
    running[0]?.answer(['A', refused, 'C']);
    expect(await results).toEqual([
      { status: 'fulfilled', value: 'A' },
      { status: 'rejected', reason: refused },
      { status: 'fulfilled', value: 'C' },
    ]);
  });

  it('Batcher, when a batch rejects, rejects each of its items and goes on', async () => {
    const { running, batcher, addAll } = manualBatcher();
    const results = Promise.allSettled(addAll('abc'));
    await turn();
    const lost = new Error('connection lost');
    running[0]?.fail(lost);
    expect(await results).toEqual(Array(3).fill({ status: 'rejected', reason: lost }));
    const next = batcher.add('d');
    await turn();
    running[1]?.answer(['D']);
    expect(await next).toBe('D');
  });

  it('Batcher, when a batch rejects with something that is no error, makes it one', async () => {
    const { running, batcher } = manualBatcher();
    const result = batcher.add('a').catch((error: unknown) => error);
    await turn();
    running[0]?.fail('no error');
    expect(await result).toMatchObject({ message: 'batch failed', cause: 'no error' });
  });

  it('idle, given a batcher that does nothing, resolves at once', async () => {
    await expect(manualBatcher().batcher.idle()).resolves.toBeUndefined();
  });

  it('idle, with items waiting and under way, resolves after the last one', async () => {
    const { running, batcher, addAll } = manualBatcher({ maxInFlight: 1 });
    const added = addAll('abcd');
    expect(batcher.size).toBe(4);
    await turn();
    const seen: string[] = [];
    const idle = batcher.idle().then(() => seen.push('idle'));
    running[0]?.answer(['A', 'B', 'C']);
    await turn();
    expect(batcher.size).toBe(1);
    expect(seen).toEqual([]);
    running[1]?.answer(['D']);
    await idle;
    expect(batcher.size).toBe(0);
    expect(await Promise.all(added)).toEqual(['A', 'B', 'C', 'D']);
  });

  it('Batcher, with nothing left to do, keeps no timer', async () => {
    const { running, addAll } = manualBatcher({ maxInFlight: 1 });
    const results = addAll('abcd');
    await turn();
    running[0]?.answer(['', '', '']);
    await turn();
    running[1]?.answer(['']);
    await Promise.all(results);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('Batcher, under any load, gives every item its own result and keeps its limits', async () => {
    const item = fc.record({
      sizeBytes: fc.integer({ min: 0, max: 12 }),
      afterMs: fc.nat(4),
      fails: fc.boolean(),
    });
    const limits = fc.record({
      maxEntries: fc.integer({ min: 1, max: 5 }),
      maxInFlight: fc.integer({ min: 1, max: 3 }),
      lingerMs: fc.nat(10),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.array(item, { maxLength: 40 }),
        limits,
        fc.infiniteStream(fc.nat(20)),
        async (items, limit, durations) => {
          const maxBytes = 10;
          let inFlight = 0;
          const execute = async (batch: number[]) => {
            inFlight++;
            expect(inFlight).toBeLessThanOrEqual(limit.maxInFlight);
            expect(batch.length).toBeLessThanOrEqual(limit.maxEntries);
            const bytes = batch.reduce((sum, index) => sum + (items[index]?.sizeBytes ?? 0), 0);
            if (batch.length > 1) expect(bytes).toBeLessThanOrEqual(maxBytes);
            await new Promise((resolve) => setTimeout(resolve, durations.next().value));
            inFlight--;
            return batch.map((index) =>
              items[index]?.fails ? new Error(`failed ${index}`) : `done ${index}`,
            );
          };
          const sizeOf = (index: number) => items[index]?.sizeBytes ?? 0;
          const batcher = new Batcher<number, string>({ ...limit, execute, maxBytes, sizeOf });
          const added: Promise<string>[] = [];
          for (const [index, { afterMs }] of items.entries()) {
            await vi.advanceTimersByTimeAsync(afterMs);
            added.push(batcher.add(index).catch((error: Error) => error.message));
          }
          await vi.runAllTimersAsync();
          expect(await Promise.all(added)).toEqual(
            items.map(({ fails }, index) => `${fails ? 'failed' : 'done'} ${index}`),
          );
          expect(batcher.size).toBe(0);
          await batcher.idle();
        },
      ),
    );
  });
});
