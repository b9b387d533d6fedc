import { execFileSync } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { createMetrics } from './metrics.ts';
import { parseSecretWord, SecretFile } from './secret-file.ts';

function watch(text: string) {
  const folder = mkdtempSync(path.join(tmpdir(), 'secret-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'value');
  writeFileSync(file, text);
  const errors: { err: Error }[] = [];
  const metrics = createMetrics('test', '1');
  const open = (name: string, lookEveryMs = 20) => {
    const secret = new SecretFile({
      secret: 'api-keys',
      variable: 'API_KEYS_FILE',
      file: name,
      parse: (content) => JSON.parse(content) as unknown,
      logger: { info: () => {}, error: (fields: unknown) => errors.push(fields as { err: Error }) },
      errors: metrics.apiKeyFileErrors,
      observeAge: metrics.observeSecretAge,
      lookEveryMs,
    });
    onTestFinished(() => secret.close());
    return secret;
  };
  const counted = async () => (await metrics.apiKeyFileErrors.get()).values[0]?.value;
  return { folder, file, errors, open, counted, registry: metrics.registry };
}

const eventually = (assertion: () => void) => vi.waitFor(assertion, { timeout: 30_000, interval: 10 });
const NEVER_MS = 2 ** 31 - 1;

describe('SecretFile', () => {
  it('has what the file holds, and what it holds later', async () => {
    const { file, open } = watch('1');
    const secret = open(file);
    expect(secret.value).toBe(1);
    writeFileSync(file, '22');
    await eventually(() => expect(secret.value).toBe(22));
  });

  it('follows a link that is turned to another folder, as Kubernetes does it', async () => {
    const { folder, file, open } = watch('1');
    writeFileSync(path.join(folder, 'next'), '2');
    const link = path.join(folder, 'link');
    symlinkSync(file, link);
    const secret = open(link);
    symlinkSync(path.join(folder, 'next'), `${link}.new`);
    renameSync(`${link}.new`, link);
    await eventually(() => expect(secret.value).toBe(2));
  });

  it('keeps its value while the file is wrong or gone, and says and counts each once', async () => {
    const { file, errors, open, counted } = watch('1');
    const secret = open(file);
    writeFileSync(file, 'no JSON');
    await eventually(() => expect(errors).toHaveLength(1));
    rmSync(file);
    await eventually(() => expect(errors).toHaveLength(2));
    for (let looks = 0; looks < 3; looks++) secret.look(true);
    expect(secret.value).toBe(1);
    expect(errors).toHaveLength(2);
    expect(await counted()).toBe(2);
    writeFileSync(file, '3');
    await eventually(() => expect(secret.value).toBe(3));
  });

  it('looked at, reads a change at once', () => {
    const { file, open } = watch('1');
    const secret = open(file, NEVER_MS);
    writeFileSync(file, '22');
    expect(secret.look()).toBe(22);
  });

  it.each([
    ['is a folder', (file: string) => mkdirSync(file), 'no file'],
    ['is a pipe that nobody writes to', (file: string) => execFileSync('mkfifo', [file]), 'no file'],
    ['is not in UTF-8', (file: string) => writeFileSync(file, Buffer.from([0x31, 0xff])), 'UTF-8'],
    [
      'is larger than a Secret can be',
      (file: string) => {
        writeFileSync(file, '');
        truncateSync(file, 1_048_577);
      },
      'larger than 1048576 bytes',
    ],
  ])('keeps its value while the file %s', (_what, become, reason) => {
    const { file, errors, open } = watch('1');
    const secret = open(file, NEVER_MS);
    rmSync(file);
    become(file);
    expect(secret.look()).toBe(1);
    expect(errors[0]?.err.message).toContain(reason);
  });

  it('tells its age, from the last change that could be used', async () => {
    const { file, open, registry } = watch('1');
    const age = async () => {
      const metrics = (await registry.getMetricsAsJSON()) as { name: string; values: { value: number }[] }[];
      return metrics.find(({ name }) => name === 'secret_age_seconds')?.values[0]?.value;
    };
    const anHourAgo = Date.now() / 1_000 - 3_600;
    utimesSync(file, anHourAgo, anHourAgo);
    const secret = open(file, NEVER_MS);
    expect(await age()).toBeGreaterThanOrEqual(3_600);
    writeFileSync(file, 'no JSON');
    secret.look();
    expect(await age()).toBeGreaterThanOrEqual(3_600);
    writeFileSync(file, '2');
    secret.look();
    expect(await age()).toBeLessThan(3_600);
  });

  it('throws what is wrong at first, and names the variable', () => {
    const { file, open } = watch('no JSON');
    expect(() => open(file)).toThrow(/API_KEYS_FILE: .*JSON/);
    expect(() => open(`${file}.missing`)).toThrow(/API_KEYS_FILE: .*ENOENT/);
  });
});

describe('a word', () => {
  it.each([
    ['as it is', ' pass wörd ', ' pass wörd '],
    ['with the end of its line', 'password\n', 'password'],
    ["with that of Windows's editors", 'password\r\n', 'password'],
  ])('%s, is read', (_what, text, word) => {
    expect(parseSecretWord(text)).toBe(word);
  });

  it.each([
    ['is empty', ''],
    ['is an empty line', '\n'],
    ['holds NUL', 's3cret\0'],
    ['has two lines', 's3cret\ns3cret\n'],
    ['has 1 MB', 's3cret'.padEnd(1_000_000, 'x')],
  ])('that %s, is refused and not repeated', (_what, text) => {
    expect(() => parseSecretWord(text)).toThrow(/^(?!.*s3cret)it /);
  });
});
