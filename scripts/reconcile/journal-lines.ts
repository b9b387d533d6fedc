import { createReadStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { UUID } from '@orders/shared/runtime/uuid.ts';

/** A line of the producer's acceptance journal. */
export type JournalLine = {
  orderId: string;
  acceptedAtMs: number;
  messageId: string;
  traceId: string;
  /** The beginning of the order's content hash; empty in lines of earlier releases. */
  content: string;
  /** Who placed it, where clients are known. */
  clientId: string | undefined;
};

const CHUNK_BYTES = 64 * 1024;
const MAX_LINE_CHARACTERS = 1024 * 1024;
/** RFC 1952, 2.3. Its first byte is a control character, which is in no line of JSON. */
const GZIP = '\x1f\x8b\x08';
const MARK = '{"journal":"accepted",';
/** Fields under which log collectors keep the line of a program. */
const WRAPPERS = ['log', 'message', 'MESSAGE', 'msg'];

/**
 * The lines of a journal, many at a time. It may be packed with gzip.
 * @param name a file, or `-` for standard input
 */
export async function* readJournal(name: string, stdin: Readable = process.stdin): AsyncGenerator<string[]> {
  const source = name === '-' ? stdin : createReadStream(name, { highWaterMark: CHUNK_BYTES });
  try {
    yield* linesOf(await unpack(source));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`cannot read ${name === '-' ? 'standard input' : name} to its end: ${reason}`, { cause });
  }
}

async function unpack(source: Readable): Promise<AsyncIterable<Buffer>> {
  const chunks = source[Symbol.asyncIterator]() as NodeJS.AsyncIterator<Buffer>;
  let head = Buffer.alloc(0);
  while (head.length < 2) {
    const { value, done } = await chunks.next();
    if (done) break;
    head = Buffer.concat([head, value]);
  }
  const whole = Readable.from(prepend(head, chunks), { objectMode: false });
  if (head[0] !== 0x1f || head[1] !== 0x8b) return whole;
  const gunzip = createGunzip({ chunkSize: CHUNK_BYTES });
  // A failure destroys the stream that is read, and so reaches its reader.
  pipeline(whole, gunzip).catch(() => {});
  return gunzip;
}

async function* prepend(head: Buffer, rest: AsyncIterator<Buffer>): AsyncGenerator<Buffer> {
  yield head;
  for (let next = await rest.next(); !next.done; next = await rest.next()) yield next.value;
}

async function* linesOf(chunks: AsyncIterable<Buffer>): AsyncGenerator<string[]> {
  let rest = '';
  for await (const chunk of chunks) {
    // What is looked for is ASCII; in other lines no character gets lost, and none can be cut in two.
    const text = rest + chunk.toString('latin1');
    // Of a small one, the garbled lines would be too few to be told.
    if (text.includes(GZIP)) throw new Error('there is gzip behind plain lines: name each file by itself');
    const lines = text.split('\n');
    rest = lines.pop() ?? '';
    if (rest.length > MAX_LINE_CHARACTERS) rest = rest.slice(-MARK.length);
    yield lines;
  }
  if (rest !== '') yield [rest];
}

/**
 * Reads one line of a log in which the journal's lines may be wrapped, prefixed or mixed with others.
 * @returns what was accepted; `other` for a line of something else; `garbled` when it cannot be told
 */
export function parseJournalLine(line: string): JournalLine | 'other' | 'garbled' {
  const json = parseObject(line) ?? parseObject(line.slice(startOfObject(line)));
  if (json === undefined) return 'garbled';
  if (json['journal'] === 'accepted') return toJournalLine(json) ?? 'garbled';
  for (const name of WRAPPERS) {
    const inner = json[name];
    if (typeof inner === 'string' && inner.includes(MARK)) return parseJournalLine(inner);
  }
  return 'other';
}

/** Behind a prefix, or behind a piece of another line that has no end. */
function startOfObject(line: string): number {
  const mark = line.lastIndexOf(MARK);
  return mark >= 0 ? mark : Math.max(0, line.indexOf('{'));
}

export function parseObject(text: string): Record<string, unknown> | undefined {
  try {
    const value = JSON.parse(text);
    return typeof value === 'object' && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

function toJournalLine(json: Record<string, unknown>): JournalLine | undefined {
  const { orderId, acceptedAt, messageId, traceId, content, clientId } = json;
  const acceptedAtMs = typeof acceptedAt === 'string' ? Date.parse(acceptedAt) : Number.NaN;
  if (typeof orderId !== 'string' || !UUID.test(orderId) || Number.isNaN(acceptedAtMs)) return undefined;
  return {
    orderId,
    acceptedAtMs,
    messageId: asText(messageId),
    traceId: asText(traceId),
    content: asText(content),
    clientId: typeof clientId === 'string' ? clientId : undefined,
  };
}

const asText = (value: unknown) => String(value ?? '');
