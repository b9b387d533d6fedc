import { execFile } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

const SCRIPT = path.join(import.meta.dirname, '..', '.ci', 'roll-back');
let folder: string;

/** The script in a repository of its own, with a kubectl that knows one lease and a rollback.sh that writes down its arguments. */
function scene(lease: object | undefined, rollbackFails = 0) {
  const write = (file: string, text: string) => {
    writeFileSync(path.join(folder, file), `#!/usr/bin/env bash\n${text}\n`);
    chmodSync(path.join(folder, file), 0o755);
  };
  for (const name of ['.ci', 'scripts', 'bin']) mkdirSync(path.join(folder, name));
  copyFileSync(SCRIPT, path.join(folder, '.ci', 'roll-back'));
  writeFileSync(path.join(folder, 'lease.json'), lease ? JSON.stringify(lease) : '');
  write('bin/kubectl', `cat ${folder}/lease.json`);
  write('bin/sleep', `echo "slept $1" >>${folder}/calls`);
  write(
    'scripts/rollback.sh',
    `echo "$*" >>${folder}/calls; [ "$(grep -c production ${folder}/calls)" -gt ${rollbackFails} ]`,
  );
}

const leaseOf = (state: object, holderIdentity = '') => ({
  metadata: { annotations: { 'order-pipeline/deployment': JSON.stringify(state) } },
  spec: { holderIdentity },
});

async function rollBack(...args: string[]): Promise<{ status: number; output: string; calls: string[] }> {
  const env = { ...process.env, PATH: `${folder}/bin:${process.env['PATH']}` };
  return new Promise((resolve) => {
    execFile(path.join(folder, '.ci', 'roll-back'), args, { env }, (error, stdout, stderr) => {
      let calls = '';
      try {
        calls = readFileSync(path.join(folder, 'calls'), 'utf8');
      } catch {}
      const asked = calls.split('\n').filter((line) => line && line !== 'slept 0');
      resolve({ status: error ? Number(error.code) : 0, output: stdout + stderr, calls: asked });
    });
  });
}

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'roll-back-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

describe('.ci/roll-back', () => {
  it.each([
    ['is there', undefined],
    ['was written by a deployment', { spec: {}, metadata: {} }],
    ['names this release: it went back by itself', leaseOf({ release: 'v1', previous: {} })],
  ])('where no lock %s, does nothing', async (_, lease) => {
    scene(lease);
    expect(await rollBack('production', 'v2', 'v1', 'v1')).toMatchObject({
      status: 0,
      output: expect.stringContaining('nothing to do'),
      calls: [],
    });
  });

  it('names the release that both services had', async () => {
    scene(leaseOf({ release: 'v2' }));
    expect(await rollBack('production', 'v2', 'v1', 'v1')).toMatchObject({
      status: 0,
      calls: ['production --to=v1'],
    });
  });

  it('of services with different releases, leaves their names to the deployment, once it has ended', async () => {
    scene(leaseOf({ release: 'v2' }, 'a run that was killed'));
    const { status, calls } = await rollBack('production', 'v2', 'v1', 'v0');
    expect({ status, last: calls.at(-1) }).toEqual({ status: 0, last: 'production' });
    expect(calls.filter((call) => call === 'slept 5')).toHaveLength(18);
  });

  it('while the lock is held, comes again', async () => {
    scene(leaseOf({ release: 'v2' }), 1);
    expect(await rollBack('production', 'v2', 'v1', 'v1')).toMatchObject({
      status: 0,
      calls: ['production --to=v1', 'slept 30', 'production --to=v1'],
    });
  });

  it('when the cluster does not say what has begun, fails, and does not take it for nothing', async () => {
    scene(undefined);
    writeFileSync(path.join(folder, 'bin', 'kubectl'), '#!/bin/sh\necho Unauthorized >&2\nexit 1\n');
    const { status, output, calls } = await rollBack('production', 'v2', 'v1', 'v1');
    expect({ status, calls }).toEqual({ status: 1, calls: ['slept 30', 'slept 60'] });
    expect(output).not.toContain('nothing to do');
  });

  it('which cannot go back, fails', async () => {
    scene(leaseOf({ release: 'v2' }), 9);
    expect(await rollBack('production', 'v2', 'v1', 'v1')).toMatchObject({ status: 1 });
  });

  it('without what ran before, says how it is called', async () => {
    scene(undefined);
    expect(await rollBack('production', 'v2', '', '')).toMatchObject({
      status: 2,
      output: expect.stringContaining('usage'),
    });
  });
});
