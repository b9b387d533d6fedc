import { closeSync, openSync, readSync, statSync } from 'node:fs';

const POLL_MS = 200;
const MAX_LINE = 160;

/**
 * Follows a log file from its present end and passes on, in one short line each, what a person at the terminal must
 * see: log lines of level ERROR and FATAL, and whatever is no log line at all (a raw write to stderr).
 */
export class LogTail {
  readonly #file: string;
  readonly #onComplaint: (line: string) => void;
  readonly #timer: NodeJS.Timeout;
  #offset: number;
  #rest = Buffer.alloc(0);

  constructor(file: string, onComplaint: (line: string) => void) {
    this.#file = file;
    this.#onComplaint = onComplaint;
    this.#offset = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    this.#timer = setInterval(() => this.read(), POLL_MS);
  }

  /** Reads what has come since. */
  read(): void {
    const size = statSync(this.#file, { throwIfNoEntry: false })?.size ?? 0;
    // It was cut, and begins anew.
    if (size < this.#offset) this.#offset = 0;
    if (size === this.#offset) return;
    const chunk = Buffer.alloc(size - this.#offset);
    const fd = openSync(this.#file, 'r');
    const length = readSync(fd, chunk, 0, chunk.length, this.#offset);
    closeSync(fd);
    this.#offset += length;
    const content = Buffer.concat([this.#rest, chunk.subarray(0, length)]);
    const end = content.lastIndexOf('\n') + 1;
    this.#rest = content.subarray(end);
    for (const line of content.subarray(0, end).toString().split('\n')) {
      const complaint = complaintOf(line);
      if (complaint) this.#onComplaint(complaint);
    }
  }

  close(): void {
    clearInterval(this.#timer);
    this.read();
  }
}

function complaintOf(line: string): string | undefined {
  if (line.trim() === '' || /^\s+at /.test(line)) return undefined;
  const entry = parse(line);
  if (!entry) return shorten(line.trimEnd());
  if (entry.level !== 'ERROR' && entry.level !== 'FATAL') return undefined;
  return shorten([entry.level, entry.message, entry.err?.message].filter(Boolean).join(': '));
}

type LogEntry = { level?: string; message?: string; err?: { message?: string } };

function parse(line: string): LogEntry | undefined {
  if (!line.startsWith('{')) return undefined;
  try {
    return JSON.parse(line) as LogEntry;
  } catch {
    return undefined;
  }
}

function shorten(text: string): string {
  const line = text.replaceAll('\n', ' ');
  return line.length > MAX_LINE ? `${line.slice(0, MAX_LINE - 1)}…` : line;
}
