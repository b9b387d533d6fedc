import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { LogTail } from './log-tail.ts';

let folder: string;
let file: string;
let seen: string[];
let tail: LogTail;

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'log-tail-'));
  file = path.join(folder, 'service.log');
  writeFileSync(file, 'of an earlier run\n');
  seen = [];
  tail = new LogTail(file, (line) => seen.push(line));
});
afterEach(() => {
  tail.close();
  rmSync(folder, { recursive: true });
});

const write = (text: string): string[] => {
  appendFileSync(file, text);
  tail.read();
  return seen.splice(0);
};

it('LogTail, of log lines, passes on errors only', () => {
  const entry = (level: string) =>
    `${JSON.stringify({ level, message: 'poll failed', err: { message: 'no\nway' } })}\n`;
  expect(write(['INFO', 'WARN', 'ERROR', 'FATAL'].map(entry).join(''))).toEqual([
    'ERROR: poll failed: no way',
    'FATAL: poll failed: no way',
  ]);
});

it('LogTail, of raw lines, passes on all but stack frames, shortened', () => {
  expect(write(`Error: broken\n    at main.ts:1\n\n{ no json\n${'x'.repeat(500)}\n`)).toEqual([
    'Error: broken',
    '{ no json',
    `${'x'.repeat(159)}…`,
  ]);
});

it('LogTail, where a line or a character comes in two parts, waits for the whole', () => {
  const bytes = Buffer.from('größer\n');
  appendFileSync(file, bytes.subarray(0, 3));
  tail.read();
  expect(seen).toEqual([]);
  appendFileSync(file, bytes.subarray(3));
  tail.read();
  expect(seen).toEqual(['größer']);
});

it('LogTail, of a file that was cut, goes on at its beginning', () => {
  write('x\n'.repeat(100));
  truncateSync(file);
  tail.read();
  expect(write('after\n')).toEqual(['after']);
  write('x\n'.repeat(100));
  truncateSync(file);
  expect(write('at once\n')).toEqual(['at once']);
});
