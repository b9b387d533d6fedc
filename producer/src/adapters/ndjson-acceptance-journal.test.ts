import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { AcceptedOrder } from '../domain/acceptance-journal.ts';
import { createProducerMetrics } from '../metrics.ts';
import {
  type JournalOptions,
  type JournalSink,
  NdjsonAcceptanceJournal,
  openAcceptanceJournal,
} from './ndjson-acceptance-journal.ts';

const anAcceptance = (orderId: string = randomUUID()): AcceptedOrder => ({
  orderId,
  contentHash: `v1:${'0123456789abcdef'.repeat(4)}`,
  acceptedAt: new Date('2026-11-22T09:00:00.123Z'),
  messageId: `m-${orderId}`,
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
});
const errno = (code: string) => Object.assign(new Error(code), { code });

/** A sink that takes what it is told to: so many bytes, an error, or everything when it is told nothing. */
class FakeSink implements JournalSink {
  text = '';
  readonly writes: string[] = [];
  readonly steps: (number | Error | Promise<number | Error>)[] = [];
  torn = false;
  closed = false;

  write = async (bytes: Buffer): Promise<number> => {
    this.writes.push(bytes.toString());
    const step = (await this.steps.shift()) ?? bytes.length;
    if (step instanceof Error) throw step;
    const taken = Math.min(step, bytes.length);
    this.text += bytes.subarray(0, taken).toString();
    return taken;
  };
  close = async (): Promise<void> => {
    this.closed = true;
  };

  /** The next write waits until it is told what to do. */
  hold(): (step?: number | Error) => void {
    const held = Promise.withResolvers<number | Error>();
    this.steps.push(held.promise);
    return (step = Number.POSITIVE_INFINITY) => held.resolve(step);
  }

  /** Ids of the lines that can be read, and how many cannot. */
  get read(): { ids: string[]; garbled: number } {
    const ids: string[] = [];
    let garbled = 0;
    for (const line of this.text.split('\n').filter(Boolean)) {
      try {
        ids.push(JSON.parse(line).orderId);
      } catch {
        garbled++;
      }
    }
    return { ids, garbled };
  }
}

function subject(sink = new FakeSink(), options: Partial<JournalOptions> = {}) {
  const { logger, lines } = captureLog();
  const metrics = createProducerMetrics('1', () => 0);
  const journal = new NdjsonAcceptanceJournal(sink, { metrics, logger, ...options });
  const missed = async () => (await metrics.ordersUnjournaled.get()).values[0]?.value;
  return { sink, journal, lines, missed };
}
const turn = () => new Promise(setImmediate);

describe('NdjsonAcceptanceJournal', () => {
  it('record, given an order, writes one line that tells itself from log lines', async () => {
    const { sink, journal } = subject();
    await journal.record(anAcceptance('o-1'));
    expect(sink.text).toBe(
      '{"journal":"accepted","orderId":"o-1","acceptedAt":"2026-11-22T09:00:00.123Z","messageId":"m-o-1","traceId":"4bf92f3577b34da6a3ce929d0e0e4736","content":"v1:0123456789abcdef"}\n',
    );
  });

  it('record, while the write is under way, does not resolve before it returns', async () => {
    const { sink, journal } = subject();
    const release = sink.hold();
    const recorded = vi.fn();
    const record = journal.record(anAcceptance()).then(recorded);
    await vi.waitFor(() => expect(sink.writes).toHaveLength(1), { timeout: 30_000 });
    await turn();
    expect(recorded).not.toHaveBeenCalled();
    release();
    await record;
  });

  it('record, given the orders of one turn, writes them at once, and those that come meanwhile together', async () => {
    const { sink, journal } = subject();
    const release = sink.hold();
    const first = ['1', '2', '3'].map((id) => journal.record(anAcceptance(id)));
    await vi.waitFor(() => expect(sink.writes).toHaveLength(1), { timeout: 30_000 });
    const second = ['4', '5'].map((id) => journal.record(anAcceptance(id)));
    release();
    await Promise.all([...first, ...second]);
    expect(sink.writes.map((text) => text.split('\n').length - 1)).toEqual([3, 2]);
    expect(sink.read).toEqual({ ids: ['1', '2', '3', '4', '5'], garbled: 0 });
  });

  it('record, given more than a pipe takes in one piece, writes whole lines of at most 4096 bytes', async () => {
    const { sink, journal } = subject();
    const ids = Array.from({ length: 100 }, () => randomUUID());
    await Promise.all(ids.map((id) => journal.record(anAcceptance(id))));
    expect(sink.writes.length).toBeGreaterThan(3);
    for (const text of sink.writes) {
      expect(Buffer.byteLength(text)).toBeLessThanOrEqual(4_096);
      expect(text.endsWith('\n')).toBe(true);
    }
    expect(sink.read).toEqual({ ids, garbled: 0 });
  });

  it('record, when the system takes a part, hands over the rest', async () => {
    const { sink, journal } = subject();
    sink.steps.push(10, 0, 5);
    await Promise.all(['1', '2'].map((id) => journal.record(anAcceptance(id))));
    expect(sink.read.ids).toEqual(['1', '2']);
  });

  it('record, whatever the system takes and refuses, writes a line of every order that it does not count', async () => {
    const step = fc.oneof(fc.integer({ min: 0, max: 200 }), fc.constantFrom('EAGAIN', 'ENOSPC', 'EIO'));
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 30 }), async (steps) => {
        const { sink, journal, missed } = subject();
        sink.steps.push(...steps.map((each) => (typeof each === 'string' ? errno(each) : each)));
        const ids = Array.from({ length: 12 }, (_, n) => `order-${n}`);
        for (const some of [ids.slice(0, 4), ids.slice(4, 9), ids.slice(9)])
          await Promise.all(some.map((id) => journal.record(anAcceptance(id))));
        await journal.close();
        const notWritten = ids.length - new Set(sink.read.ids).size;
        // Cut right before its line end, a line can be read although it counts as missed.
        const cuts = steps.length;
        expect(Number(await missed())).toBeGreaterThanOrEqual(notWritten);
        expect(Number(await missed())).toBeLessThanOrEqual(notWritten + cuts);
      }),
      { numRuns: 60 },
    );
  });

  it('record, when a pipe is full for a moment, waits and writes', async () => {
    const { sink, journal, missed, lines } = subject();
    sink.steps.push(errno('EAGAIN'), 30, errno('EAGAIN'));
    await journal.record(anAcceptance('1'));
    // What somebody else wrote in between must not become a part of our line.
    expect(sink.read).toEqual({ ids: ['1'], garbled: 1 });
    expect(await missed()).toBe(0);
    expect(lines).toEqual([]);
  });

  it('record, when the disk is full, resolves all the same, counts each order and logs once', async () => {
    const { sink, journal, missed, lines } = subject();
    sink.steps.push(errno('ENOSPC'), errno('ENOSPC'));
    await Promise.all(['1', '2'].map((id) => journal.record(anAcceptance(id))));
    await journal.record(anAcceptance('3'));
    expect(await missed()).toBe(3);
    expect(lines).toMatchObject([{ level: 'ERROR', err: { code: 'ENOSPC' } }]);
    await journal.record(anAcceptance('4'));
    expect(sink.read).toEqual({ ids: ['4'], garbled: 0 });
    expect(lines.slice(1)).toMatchObject([
      { level: 'INFO', message: 'acceptance journal is back', missed: 3 },
    ]);
  });

  it('record, when the disk is full in the middle of a line, counts the lines that are not whole', async () => {
    const { sink, journal, missed } = subject();
    sink.steps.push(200, errno('ENOSPC'));
    await Promise.all(['1', '2'].map((id) => journal.record(anAcceptance(id))));
    expect(await missed()).toBe(1);
    await journal.record(anAcceptance('3'));
    expect(sink.read).toEqual({ ids: ['1', '3'], garbled: 1 });
  });

  it('record, while the pipe stays full in an outage that lasts, does not wait', async () => {
    const { sink, journal, missed } = subject();
    sink.steps.push(errno('ENOSPC'), errno('EAGAIN'));
    await journal.record(anAcceptance('1'));
    await journal.record(anAcceptance('2'));
    expect(sink.writes).toHaveLength(2);
    expect(await missed()).toBe(2);
  });

  it('record, when a write does not return, answers after the limit, and at once from then on, until it returns', async () => {
    const { sink, journal, missed, lines } = subject(new FakeSink(), { limitMs: 20 });
    const release = sink.hold();
    await journal.record(anAcceptance('1'));
    await journal.record(anAcceptance('2'));
    expect(await missed()).toBe(2);
    expect(lines).toMatchObject([{ level: 'ERROR', err: { message: 'the write takes too long' } }]);
    release();
    await turn();
    await journal.record(anAcceptance('3'));
    expect(sink.read.ids).toEqual(['1', '3']);
  });

  it('record, behind what a killed process left, begins with a line end', async () => {
    const sink = new FakeSink();
    sink.torn = true;
    sink.text = '{"journal":"acc';
    const { journal } = subject(sink);
    await journal.record(anAcceptance('1'));
    expect(sink.read).toEqual({ ids: ['1'], garbled: 1 });
  });

  it('close, with a write under way, waits for it and closes', async () => {
    const { sink, journal } = subject();
    const release = sink.hold();
    const record = journal.record(anAcceptance('1'));
    const closed = journal.close().then(() => sink.read.ids);
    expect(sink.closed).toBe(false);
    release();
    await record;
    expect(await closed).toEqual(['1']);
    expect(sink.closed).toBe(true);
  });
});

describe('openAcceptanceJournal', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(path.join(tmpdir(), 'journal-'));
  });
  afterEach(() => {
    rmSync(folder, { recursive: true });
  });
  const options = { metrics: createProducerMetrics('1', () => 0), logger: captureLog().logger };
  const idsIn = (file: string) =>
    readFileSync(file, 'utf8')
      .split('\n')
      .filter((line) => line.startsWith('{"journal":"accepted"') && line.endsWith('}'))
      .map((line) => JSON.parse(line).orderId);

  it('openAcceptanceJournal, given a file in a new folder, makes both, and appends the next time', async () => {
    const file = path.join(folder, 'new', 'accepted.ndjson');
    for (const id of ['1', '2']) {
      const journal = openAcceptanceJournal(file, options);
      await journal.record(anAcceptance(id));
      await journal.close();
    }
    expect(idsIn(file)).toEqual(['1', '2']);
  });

  it('openAcceptanceJournal, given a file that ends in the middle of a line, keeps the next line whole', async () => {
    const file = path.join(folder, 'accepted.ndjson');
    writeFileSync(file, '{"journal":"accepted","orderId":"cut');
    const journal = openAcceptanceJournal(file, options);
    await journal.record(anAcceptance('1'));
    await journal.close();
    expect(idsIn(file)).toEqual(['1']);
  });

  it('openAcceptanceJournal, given a file that is rotated by copy and truncation, goes on at its start', async () => {
    const file = path.join(folder, 'accepted.ndjson');
    const journal = openAcceptanceJournal(file, options);
    await journal.record(anAcceptance('1'));
    writeFileSync(file, '');
    await journal.record(anAcceptance('2'));
    await journal.close();
    expect(readFileSync(file, 'utf8')).toMatch(/^\{"journal":"accepted","orderId":"2".*\n$/);
  });

  it('openAcceptanceJournal, given a folder, says which variable is wrong', () => {
    expect(() => openAcceptanceJournal(folder, options)).toThrow(StartupError);
    expect(() => openAcceptanceJournal(folder, options)).toThrow(
      /^ACCEPTANCE_JOURNAL: cannot write .*EISDIR/,
    );
  });

  it('openAcceptanceJournal, of off, records nothing and keeps nobody waiting', async () => {
    const journal = openAcceptanceJournal('off', options);
    await journal.record(anAcceptance());
    await journal.close();
  });
});
