import { expect, test } from 'vitest';
import { NdjsonAcceptanceJournal } from '../../producer/src/adapters/ndjson-acceptance-journal.ts';
import { journaledIn, unjournaledIn } from './observe.ts';

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
    });
  await record('id-1');
  broken = true;
  await record('id-2');
  broken = false;
  await record('id-3');
  expect(journaledIn(`${written}{"journal":"accepted","orderId":"id-4","acc`)).toEqual(['id-1', 'id-3']);
  expect(unjournaledIn(`order-producer: half a line\n${lines.join('\n')}\n`)).toBe(1);
});
