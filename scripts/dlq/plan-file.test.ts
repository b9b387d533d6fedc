import { createHash } from 'node:crypto';
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { PlanEntry } from '@orders/consumer/dlq/plan-entry.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { afterAll, expect, it } from 'vitest';
import { PlanWriter, readPlan } from './plan-file.ts';

const folder = mkdtempSync(path.join(tmpdir(), 'plans-'));
afterAll(() => rmSync(folder, { recursive: true }));
let files = 0;
const aFile = () => path.join(folder, `${files++}.plan`);

const HEADER = {
  purpose: 'redrive',
  environment: 'dev',
  queue: 'arn:aws:sqs:eu-west-1:1:order-dlq',
  createdAt: '2026-03-01T00:00:00.000Z',
  expiresAt: '2026-03-02T00:00:00.000Z',
  chosen: '{}',
} as const;
const IN_TIME = new Date('2026-03-01T12:00:00Z');
const anEntry = (n: number, more: Partial<PlanEntry> = {}): PlanEntry => ({
  messageId: `message-${n}`,
  hash: 'h',
  reason: 'INVALID_ORDER',
  action: 'repair',
  orders: [{ orderId: 'o', contentHash: 'c' }],
  // Characters that a reader of lines may take for the end of one.
  body: `{"한국어":"${n}\u2028\u2029\\r"}`,
  ...more,
});

function written(entries: readonly PlanEntry[]): string {
  const file = aFile();
  const writer = new PlanWriter(file, HEADER);
  for (const entry of entries) writer.add(entry);
  writer.finish();
  return file;
}

it('a plan, read, has what was written, each whole entry on demand', async () => {
  const entries = Array.from({ length: 1_000 }, (_, n) => anEntry(n));
  const file = written(entries);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const plan = await readPlan(file, IN_TIME);
  expect(plan).toMatchObject(HEADER);
  expect([...plan.letters.values()].map(plan.entryOf)).toEqual(entries);
  expect(JSON.stringify([...plan.letters.values()])).not.toContain('한국어');
  plan.close();
});

it('a plan of which the writing ended early is none, and none is written over', async () => {
  const file = aFile();
  const writer = new PlanWriter(file, HEADER);
  writer.add(anEntry(1));
  expect(existsSync(file)).toBe(false);
  writer.finish();
  expect(() => new PlanWriter(file, HEADER)).toThrow(StartupError);
});

const withHash = (text: string, hash: string) => text.replace(/"hash":"[0-9a-f]{64}"/, `"hash":"${hash}"`);

it.each<[string, (text: string) => string, RegExp]>([
  ['with another order in it', (text) => text.replace('message-1', 'message-9'), /it was altered/],
  ['with a body changed', (text) => text.replace('한국어', '중국어'), /it was altered/],
  ['with its hash changed', (text) => withHash(text, '0'.repeat(64)), /it was altered/],
  ['with a line less', (text) => text.split('\n').toSpliced(2, 1).join('\n'), /it was altered/],
  ['with a line that is no entry', (text) => text.replace('"action":"repair"', '"action":"x"'), /altered/],
  ['cut off', (text) => text.slice(0, -80), /it was altered|end is missing/],
  ['without its end', (text) => text.split('\n').slice(0, 3).join('\n'), /its end is missing/],
  ['twice in one file', (text) => text + text, /something behind its end/],
  ['of another kind', () => 'a text', /is no plan/],
  ['that is empty', () => '', /is no plan/],
])('a plan %s, is refused', async (_, change, why) => {
  const file = written([anEntry(0), anEntry(1)]);
  writeFileSync(file, change(readFileSync(file, 'utf8')));
  await expect(readPlan(file, IN_TIME)).rejects.toThrow(why);
});

it('a plan that has expired, or is not there, is refused', async () => {
  const file = written([anEntry(0)]);
  await expect(readPlan(file, new Date('2026-03-02T00:00:01Z'))).rejects.toThrow(/it expired at/);
  await expect(readPlan(aFile(), IN_TIME)).rejects.toThrow(/cannot read/);
});

it('a plan whose lines are larger than what is read at once, is read', async () => {
  const file = written([anEntry(0, { body: 'x'.repeat(1_000_000) }), anEntry(1)]);
  const plan = await readPlan(file, IN_TIME);
  const [large] = plan.letters.values();
  expect(
    large &&
      createHash('sha256')
        .update(plan.entryOf(large).body ?? '')
        .digest('hex'),
  ).toBe(createHash('sha256').update('x'.repeat(1_000_000)).digest('hex'));
  plan.close();
});
