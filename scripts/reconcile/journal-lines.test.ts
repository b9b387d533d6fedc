import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { parseJournalLine, readJournal } from './journal-lines.ts';

const ACCEPTED = {
  journal: 'accepted',
  orderId: '019a0000-0000-7000-8000-000000000001',
  acceptedAt: '2026-11-22T09:00:00.123Z',
  messageId: 'm-1',
  traceId: '4bf92f3577b34da6a3ce929d0e0e4736',
  content: 'v1:0123456789abcdef',
};
const LINE = JSON.stringify(ACCEPTED);
const READ = {
  orderId: ACCEPTED.orderId,
  acceptedAtMs: Date.parse(ACCEPTED.acceptedAt),
  messageId: ACCEPTED.messageId,
  traceId: ACCEPTED.traceId,
  content: ACCEPTED.content,
};

async function linesOf(chunks: Buffer[]): Promise<string[]> {
  const lines: string[] = [];
  for await (const some of readJournal('-', Readable.from(chunks))) lines.push(...some);
  return lines.filter((line) => line !== '');
}

describe('parseJournalLine', () => {
  it.each([
    ['as the producer writes it', LINE],
    ['with a carriage return', `${LINE}\r`],
    ['behind the prefix of a container', `producer-1  | ${LINE}`],
    ['behind a piece of another line', `${LINE.slice(0, 70)}${LINE}`],
    ['wrapped by a log collector', JSON.stringify({ log: `${LINE}\n`, stream: 'stdout' })],
    [
      'written anew with other fields',
      JSON.stringify({ pod: 'p-1', ...ACCEPTED }, null, 1).replaceAll('\n', ''),
    ],
  ])('parseJournalLine, of a line %s, reads it', (_how, line) => {
    expect(parseJournalLine(line)).toEqual(READ);
  });

  it('parseJournalLine, of a line of an earlier release, has no content', () => {
    const earlier = LINE.replace(/,"content":.*}/, '}');
    expect(parseJournalLine(earlier)).toEqual({ ...READ, content: '' });
  });

  it.each([
    '{"level":"INFO","message":"ready","acceptanceJournal":"stdout"}',
    '{"log":"{\\"level\\":\\"INFO\\"}"}',
    '{"journal":"something else"}',
    '[]',
  ])('parseJournalLine, of %s, is another line', (line) => {
    expect(parseJournalLine(line)).toBe('other');
  });

  it.each([
    LINE.slice(0, 80),
    LINE.slice(80),
    'no JSON',
    '42',
    JSON.stringify({ ...ACCEPTED, orderId: '42' }),
    JSON.stringify({ ...ACCEPTED, acceptedAt: 'today' }),
    JSON.stringify({ ...ACCEPTED, acceptedAt: undefined }),
  ])('parseJournalLine, of %s, is garbled', (line) => {
    expect(parseJournalLine(line)).toBe('garbled');
  });
});

describe('readJournal', () => {
  const text = `${LINE}\n{"message":"주문 ✓"}\n${LINE}`;

  it.each([
    ['text', Buffer.from(text)],
    ['gzip', gzipSync(text)],
    ['several gzip members', Buffer.concat([gzipSync(text.slice(0, 50)), gzipSync(text.slice(50))])],
  ])('readJournal, of %s that comes byte by byte, gives its lines', async (_what, bytes) => {
    const lines = await linesOf([...bytes].map((byte) => Buffer.of(byte)));
    expect(lines.map(parseJournalLine)).toEqual([READ, 'other', READ]);
  });

  it('readJournal, of gzip behind plain lines, refuses instead of counting some garbled lines', async () => {
    const chunks = [Buffer.from(`${LINE}\n`), gzipSync(`${LINE}\n${LINE}\n`)];
    await expect(linesOf(chunks)).rejects.toThrow(
      /standard input to its end: there is gzip behind plain lines/,
    );
  });

  it('readJournal, of nothing, gives no line', async () => {
    expect(await linesOf([])).toEqual([]);
  });

  it('readJournal, of a line without an end, keeps little of it and goes on behind it', async () => {
    const endless = Array.from({ length: 64 }, () => Buffer.alloc(64 * 1024, 'x'));
    const lines = await linesOf([...endless, Buffer.from(`\n${LINE}\n`)]);
    expect(lines).toHaveLength(2);
    expect(lines[0]?.length).toBeLessThan(2 * 1024 * 1024);
    expect(lines.map(parseJournalLine)).toEqual(['garbled', READ]);
  });

  it('readJournal, of gzip that is cut, fails', async () => {
    await expect(linesOf([gzipSync(text).subarray(0, -9)])).rejects.toThrow(
      'cannot read standard input to its end: unexpected end of file',
    );
  });
});
