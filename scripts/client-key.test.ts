import { execFile, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { ApiKeys } from '@orders/shared/auth/api-keys.ts';
import { expect, onTestFinished, test } from 'vitest';

const SCRIPT = path.join(import.meta.dirname, 'client-key.ts');

function run(...args: string[]) {
  const { stdout, stderr, status } = spawnSync(process.execPath, [SCRIPT, ...args], { encoding: 'utf8' });
  return { key: stdout.trim(), stderr, status };
}

function aFile(text?: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'client-key-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'keys');
  if (text !== undefined) writeFileSync(file, text);
  return file;
}

test('client-key, without a file, prints the key alone on standard output and the line for the file beside it', () => {
  const { key, stderr, status } = run('web-shop', '--scopes=orders:write');
  expect(status).toBe(0);
  const line = stderr.split('\n')[1] ?? '';
  expect(ApiKeys.parse(line).find(key)).toEqual({ id: 'web-shop', scopes: new Set(['orders:write']) });
});

test('client-key, with a file that is not there, makes it for its owner only', () => {
  const file = aFile();
  const { key } = run('web-shop', `--file=${file}`);
  expect(ApiKeys.parse(readFileSync(file, 'utf8')).find(key)?.id).toBe('web-shop');
  expect(statSync(file).mode & 0o777).toBe(0o600);
});

test('client-key, for a client that is in the file, adds a second key and keeps the first, its scopes and the comments', () => {
  const file = aFile();
  const first = run('web-shop', '--scopes=orders:read', `--file=${file}`);
  writeFileSync(
    file,
    `# ours\n${readFileSync(file, 'utf8').trimEnd()} # since May\nother operations ${'0'.repeat(64)}\n`,
  );
  const second = run('web-shop', `--file=${file}`);
  const text = readFileSync(file, 'utf8');
  const keys = ApiKeys.parse(text);
  expect(keys.find(first.key)).toEqual({ id: 'web-shop', scopes: new Set(['orders:read']) });
  expect(keys.find(second.key)).toBe(keys.find(first.key));
  expect(text).toMatch(/^# ours\nweb-shop .* # since May\nother operations 0+\n$/);
});

test('client-key, for a client with two keys, changes nothing and says why', () => {
  const file = aFile();
  for (const time of [1, 2]) expect([time, run('web-shop', `--file=${file}`).status]).toEqual([time, 0]);
  const before = readFileSync(file, 'utf8');
  const { key, stderr, status } = run('web-shop', `--file=${file}`);
  expect({ key, status }).toEqual({ key: '', status: 1 });
  expect(stderr).toContain('line 1: a client has 1 to 2 keys');
  expect(readFileSync(file, 'utf8')).toBe(before);
});

test('client-key, several runs at once on one file: it holds each key that was shown', async () => {
  const file = aFile('');
  const runs = await Promise.allSettled(
    Array.from({ length: 6 }, (_, n) =>
      promisify(execFile)(process.execPath, [SCRIPT, `client-${n}`, `--file=${file}`]),
    ),
  );
  const shown = runs.flatMap((one) => (one.status === 'fulfilled' ? one.value.stdout.trim() : []));
  const keys = ApiKeys.parse(readFileSync(file, 'utf8'));
  expect(shown.length).toBeGreaterThan(0);
  expect(shown.filter((key) => keys.find(key) === undefined)).toEqual([]);
  expect(keys.clients).toBe(shown.length);
});

test('client-key writes to where a link points, and leaves the file readable for whom it was', () => {
  const file = aFile(`other operations ${'0'.repeat(64)}\n`);
  chmodSync(file, 0o640);
  symlinkSync(file, `${file}-link`);
  const { key } = run('web-shop', `--file=${file}-link`);
  expect(lstatSync(`${file}-link`).isSymbolicLink()).toBe(true);
  expect(ApiKeys.parse(readFileSync(file, 'utf8')).find(key)?.id).toBe('web-shop');
  expect(statSync(file).mode & 0o777).toBe(0o640);
});

test('client-key refuses a file that is read-only, a pipe, or being written by another run, and leaves it', () => {
  const before = `other operations ${'0'.repeat(64)}\n`;
  const readOnly = aFile(before);
  chmodSync(readOnly, 0o444);
  const pipe = aFile();
  spawnSync('sh', ['-c', 'mkfifo "$0"', pipe]);
  const written = aFile(before);
  writeFileSync(`${written}.new`, '');
  for (const [file, why] of [
    [readOnly, 'is read-only'],
    [pipe, 'is not a file'],
    [written, 'another run is writing'],
  ] as const) {
    const { key, stderr, status } = run('web-shop', `--file=${file}`);
    expect([why, key, status]).toEqual([why, '', 1]);
    expect(stderr).toContain(why);
  }
  expect([readFileSync(readOnly, 'utf8'), readFileSync(written, 'utf8')]).toEqual([before, before]);
  expect(lstatSync(pipe).isFIFO()).toBe(true);
});

test('client-key keeps the line ends of Windows, with and without a comment', () => {
  const file = aFile(`a operations ${'0'.repeat(64)} # since May\r\nb operations ${'1'.repeat(64)}\r\n`);
  const first = run('a', `--file=${file}`);
  const second = run('b', `--file=${file}`);
  const text = readFileSync(file, 'utf8');
  const keys = ApiKeys.parse(text);
  expect([keys.find(first.key)?.id, keys.find(second.key)?.id]).toEqual(['a', 'b']);
  expect(text).toMatch(/^a .* # since May\r\nb .*\r\n$/);
});

test('client-key, asked for scopes that the client in the file does not have, changes nothing and says so', () => {
  const before = `web-shop operations,orders:read ${'0'.repeat(64)}\n`;
  const file = aFile(before);
  const { key, stderr, status } = run('web-shop', '--scopes=orders:read', `--file=${file}`);
  expect({ key, status }).toEqual({ key: '', status: 1 });
  expect(stderr).toContain('web-shop is in the file with operations,orders:read');
  expect(readFileSync(file, 'utf8')).toBe(before);
  expect(run('web-shop', '--scopes=orders:read,operations', `--file=${file}`).status).toBe(0);
});

test.runIf(existsSync('/dev/full'))('client-key adds no key that it could not show', () => {
  const file = aFile();
  const stdout = openSync('/dev/full', 'w');
  const { status } = spawnSync(process.execPath, [SCRIPT, 'web-shop', `--file=${file}`], {
    stdio: ['ignore', stdout, 'ignore'],
  });
  expect([status, existsSync(file), existsSync(`${file}.new`)]).toEqual([1, false, false]);
});

test.each([['-x'], ['web shop'], ['web-shop', '--scopes=orders'], ['web-shop', '--scopes='], []])(
  'client-key %s %s is wrong usage',
  (...args) => {
    expect(run(...args).status).toBe(2);
  },
);

test('client-key.sh, called from elsewhere, takes the name of the file from there', () => {
  const file = aFile();
  const script = path.join(import.meta.dirname, 'client-key.sh');
  const { status } = spawnSync(script, ['web-shop', '--file=keys'], { cwd: path.dirname(file) });
  expect(status).toBe(0);
  expect(readFileSync(file, 'utf8')).toMatch(/^web-shop /);
});
