import { mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { WatchedFile } from './watched-file.ts';

function watch(text: string) {
  const folder = mkdtempSync(path.join(tmpdir(), 'watched-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'value');
  writeFileSync(file, text);
  const errors: unknown[] = [];
  const options = { onError: (error: unknown) => errors.push(error), lookEveryMs: 20 };
  const open = (name: string) => {
    const watched = new WatchedFile(name, (content) => JSON.parse(content) as unknown, options);
    onTestFinished(() => watched.close());
    return watched;
  };
  return { folder, file, errors, open };
}

const eventually = (assertion: () => void) => vi.waitFor(assertion, { timeout: 30_000, interval: 10 });

describe('WatchedFile', () => {
  it('has what the file holds, and what it holds later', async () => {
    const { file, open } = watch('1');
    const watched = open(file);
    expect(watched.value).toBe(1);
    writeFileSync(file, '22');
    await eventually(() => expect(watched.value).toBe(22));
  });

  it('follows a link that is turned to another folder, as Kubernetes does it', async () => {
    const { folder, file, open } = watch('1');
    writeFileSync(path.join(folder, 'next'), '2');
    const link = path.join(folder, 'link');
    symlinkSync(file, link);
    const watched = open(link);
    symlinkSync(path.join(folder, 'next'), `${link}.new`);
    renameSync(`${link}.new`, link);
    await eventually(() => expect(watched.value).toBe(2));
  });

  it('keeps its value while the file is wrong or gone, and says so', async () => {
    const { file, errors, open } = watch('1');
    const watched = open(file);
    writeFileSync(file, 'no JSON');
    await eventually(() => expect(errors).toHaveLength(1));
    rmSync(file);
    await eventually(() => expect(errors).toHaveLength(2));
    expect(watched.value).toBe(1);
    writeFileSync(file, '3');
    await eventually(() => expect(watched.value).toBe(3));
  });

  it('throws what is wrong at first', () => {
    const { file, open } = watch('no JSON');
    expect(() => open(file)).toThrow(SyntaxError);
    expect(() => open(`${file}.missing`)).toThrow('ENOENT');
  });
});
