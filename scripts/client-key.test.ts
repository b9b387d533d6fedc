import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
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
