import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';

const installed = { 'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' } };

/** Runs a program in a clone whose lock file, which is younger, has one package. */
function runIn({ nodeModules }: { nodeModules: object | undefined }) {
  const clone = mkdtempSync(path.join(tmpdir(), 'clone-'));
  onTestFinished(() => rmSync(clone, { recursive: true }));
  for (const name of ['ready.mjs', 'installation.mjs'])
    cpSync(path.join(import.meta.dirname, name), path.join(clone, 'scripts', name));
  writeFileSync(path.join(clone, 'package-lock.json'), JSON.stringify({ packages: installed }));
  if (nodeModules) {
    const file = path.join(clone, 'node_modules', '.package-lock.json');
    mkdirSync(path.dirname(file));
    writeFileSync(file, JSON.stringify({ packages: nodeModules }));
    utimesSync(file, 0, 0);
  }
  writeFileSync(path.join(clone, 'program.ts'), "console.log('it runs' as string);");
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', './scripts/ready.mjs', 'program.ts'],
    { cwd: clone, encoding: 'utf8' },
  );
  return { status, stdout, stderr };
}

it.each([
  ['missing', undefined],
  ['older than the lock file', { 'node_modules/a': { version: '0.9.0', integrity: 'sha512-old' } }],
])('ready, while node_modules is %s, ends the program with one line', (_state, nodeModules) => {
  const stderr = 'dependencies are missing or not those of package-lock.json: run npm ci first\n';
  expect(runIn({ nodeModules })).toEqual({ status: 1, stdout: '', stderr });
});

it('ready, while node_modules holds what the lock file says, lets the program run', () => {
  expect(runIn({ nodeModules: installed })).toEqual({ status: 0, stdout: 'it runs\n', stderr: '' });
});
