import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { NdjsonAcceptanceJournal } from '../../producer/src/adapters/ndjson-acceptance-journal.ts';
import { archivesIn, journaledIn, unjournaledIn } from './observe.ts';

test('the campaign, of a journal and a log as the producer writes them, reads lines and what it could not write', async () => {
  let written = '';
  let broken = false;
  const lines: string[] = [];
  const log = (fields: object, message: string) =>
    lines.push(JSON.stringify({ level: 'INFO', message, ...fields }));
  const write = async (bytes: Buffer) => {
    if (broken) throw new Error('broken');
    written += bytes.toString();
    return bytes.length;
  };
  const journal = new NdjsonAcceptanceJournal(
    { write, close: async () => {} },
    {
      logger: { info: log, error: log } as never,
      metrics: { ordersUnjournaled: { inc: () => {} } as never },
    },
  );
  const record = (orderId: string) =>
    journal.record({
      orderId,
      contentHash: `v1:${'a'.repeat(64)}`,
      acceptedAt: new Date(),
      messageId: 'm',
      traceId: 't',
      clientId: 'shop-a',
    });
  await record('id-1');
  broken = true;
  await record('id-2');
  broken = false;
  await record('id-3');
  expect(journaledIn(`${written}{"journal":"accepted","orderId":"id-4","acc`)).toEqual(
    ['id-1', 'id-3'].map((orderId) => ({ orderId, messageId: 'm', clientId: 'shop-a' })),
  );
  expect(unjournaledIn(`order-producer: half a line\n${lines.join('\n')}\n`)).toBe(1);
});

test('the campaign, of archives, reads each that is whole, and names each that is cut', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'archives-'));
  const archive = (orderId: string) => gzipSync(`${JSON.stringify({ order: { orderId } })}\n`);
  const file = (name: string) => path.join(folder, name);
  writeFileSync(file('whole.gz'), archive('id-1'));
  appendFileSync(file('whole.gz'), archive('id-2'));
  writeFileSync(file('cut.gz'), archive('id-3').subarray(0, 20));
  appendFileSync(file('cut.gz'), archive('id-4'));
  writeFileSync(file('unfinished.gz.part'), archive('id-5').subarray(0, 20));
  const { archived, unreadableArchives } = archivesIn(folder);
  rmSync(folder, { recursive: true });
  expect(archived.map(({ orderId }) => orderId)).toEqual(['id-1', 'id-2']);
  expect(unreadableArchives).toEqual([expect.stringMatching(/^cut\.gz: /)]);
});
