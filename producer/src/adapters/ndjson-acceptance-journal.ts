import { close, fstatSync, mkdirSync, openSync, readSync, write } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import type { AcceptanceJournal, AcceptedOrder } from '../domain/acceptance-journal.ts';
import type { ProducerMetrics } from '../metrics.ts';

export type JournalOptions = {
  metrics: Pick<ProducerMetrics, 'ordersUnjournaled'>;
  logger: Pick<Logger, 'error' | 'info'>;
  /** How long a write may take before orders are answered without it. */
  limitMs?: number;
};

/** Where the lines go. */
export type JournalSink = {
  /** Hands bytes to the operating system. Resolves with how many it accepted, which may be fewer. */
  write: (bytes: Buffer) => Promise<number>;
  close: () => Promise<void>;
  /** The existing content ends in the middle of a line. */
  torn?: boolean;
};

type Line = { text: string; answer: () => void; answered: boolean };

/** What a pipe writes in one piece (PIPE_BUF), so that log lines on the same standard output do not mix with ours. */
const MAX_WRITE_BYTES = 4_096;
/** `v1:` and 8 bytes of the hash: enough to tell orders with the same id apart. */
const CONTENT_CHARACTERS = 3 + 16;
const LIMIT_MS = 1_000;
const RETRY_MS = 5;
const LINE_END = 0x0a;
const STDOUT = 1;

/**
 * Opens what `ACCEPTANCE_JOURNAL` names: `off`, `stdout`, or a file to append to.
 * @throws {StartupError} if the file cannot be opened
 */
export function openAcceptanceJournal(
  target: string,
  options: JournalOptions,
): AcceptanceJournal & { close: () => Promise<void> } {
  if (target === 'off') return { record: async () => {}, close: async () => {} };
  return new NdjsonAcceptanceJournal(target === 'stdout' ? stdoutSink : openFile(target), options);
}

/**
 * One JSON line per order, with `"journal":"accepted"` to tell it from log lines. Lines of one turn of the event loop, and
 * those that come while a write is under way, share a write. A line that was cut is written again in full after a line
 * end. While lines cannot be written, orders are answered without them: counted, and logged once per outage.
 */
export class NdjsonAcceptanceJournal implements AcceptanceJournal {
  readonly #sink: JournalSink;
  readonly #options: JournalOptions;
  #waiting: Line[] = [];
  #writing: Promise<void> | undefined;
  #torn: boolean;
  /** The current write takes longer than its limit. */
  #stuck = false;
  /** Orders answered without their line in the current outage. */
  #missed = 0;

  constructor(sink: JournalSink, options: JournalOptions) {
    this.#sink = sink;
    this.#options = options;
    this.#torn = sink.torn ?? false;
  }

  record({ orderId, contentHash, acceptedAt, messageId, traceId, clientId }: AcceptedOrder): Promise<void> {
    const content = contentHash.slice(0, CONTENT_CHARACTERS);
    const text = `${JSON.stringify({ journal: 'accepted', orderId, acceptedAt, messageId, traceId, content, clientId })}\n`;
    return new Promise((answer) => {
      const line = { text, answer, answered: false };
      if (this.#stuck) return this.#miss([line]);
      this.#waiting.push(line);
      this.#writing ??= this.#writeWaiting();
    });
  }

  /** Call it when all orders are answered. Does not wait for a write that was given up. */
  async close(): Promise<void> {
    if (this.#stuck) return;
    await this.#writing;
    await this.#sink.close();
  }

  async #writeWaiting(): Promise<void> {
    await new Promise(setImmediate);
    while (this.#waiting.length > 0) {
      const lines = this.#take();
      const limit = setTimeout(() => this.#giveUp(lines), this.#options.limitMs ?? LIMIT_MS);
      await this.#write(lines);
      clearTimeout(limit);
      this.#stuck = false;
    }
    this.#writing = undefined;
  }

  #take(): Line[] {
    let characters = 0;
    const end = this.#waiting.findIndex(({ text }, index) => {
      characters += text.length;
      return index > 0 && characters >= MAX_WRITE_BYTES;
    });
    return this.#waiting.splice(0, end === -1 ? this.#waiting.length : end);
  }

  async #write(lines: Line[]): Promise<void> {
    let left = lines;
    while (left.length > 0) {
      const start = this.#torn ? '\n' : '';
      const bytes = Buffer.from(start + left.map(({ text }) => text).join(''));
      const { taken, error } = await this.#handOver(bytes);
      if (taken > 0) this.#torn = bytes[taken - 1] !== LINE_END;
      const whole = error
        ? countLines(bytes.subarray(start.length, Math.max(start.length, taken)))
        : left.length;
      answer(left.slice(0, whole));
      left = left.slice(whole);
      if (left.length === 0) break;
      // A full pipe is worth waiting for, unless waiting did not help before.
      if (!isPassing(error) || this.#stuck || this.#missed > 0) return this.#miss(left, error);
      await sleep(RETRY_MS);
    }
    if (this.#missed > 0) this.#options.logger.info({ missed: this.#missed }, 'acceptance journal is back');
    this.#missed = 0;
  }

  async #handOver(bytes: Buffer): Promise<{ taken: number; error?: unknown }> {
    let taken = 0;
    try {
      while (taken < bytes.length) {
        const written = await this.#sink.write(bytes.subarray(taken));
        if (written === 0) throw Object.assign(new Error('nothing was written'), { code: 'EAGAIN' });
        taken += written;
      }
      return { taken };
    } catch (error) {
      return { taken, error };
    }
  }

  #giveUp(lines: Line[]): void {
    this.#stuck = true;
    this.#miss([...lines, ...this.#waiting.splice(0)], new Error('the write takes too long'));
  }

  #miss(lines: Line[], err?: unknown): void {
    const missed = lines.filter(({ answered }) => !answered).length;
    if (missed > 0 && this.#missed === 0)
      this.#options.logger.error(
        { err },
        'acceptance journal cannot be written: orders are accepted without',
      );
    this.#missed += missed;
    this.#options.metrics.ordersUnjournaled.inc(missed);
    answer(lines);
  }
}

function answer(lines: Line[]): void {
  for (const line of lines) {
    line.answered = true;
    line.answer();
  }
}

function countLines(bytes: Uint8Array): number {
  return bytes.filter((byte) => byte === LINE_END).length;
}

function isPassing(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === 'EAGAIN' || code === 'EINTR';
}

const writeBytes = promisify(write);
const stdoutSink: JournalSink = {
  write: async (bytes) => (await writeBytes(STDOUT, bytes)).bytesWritten,
  close: async () => {},
};

function openFile(path: string): JournalSink {
  try {
    mkdirSync(dirname(path), { recursive: true });
    const fd = openSync(path, 'a+');
    return {
      write: async (bytes) => (await writeBytes(fd, bytes)).bytesWritten,
      close: () => promisify(close)(fd),
      torn: endsInALine(fd),
    };
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new StartupError(`ACCEPTANCE_JOURNAL: cannot write ${path}: ${reason}`, { cause });
  }
}

/** A killed process may have left part of a line. */
function endsInALine(fd: number): boolean {
  const { size } = fstatSync(fd);
  const last = Buffer.alloc(1);
  return size > 0 && readSync(fd, last, 0, 1, size - 1) === 1 && last[0] !== LINE_END;
}
