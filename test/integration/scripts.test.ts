import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';

const SCRIPTS = path.join(import.meta.dirname, '..', '..', 'scripts');
const wrappers = (await readdir(SCRIPTS)).filter(
  (name) => name.endsWith('.sh') && name !== 'compose-smoke.sh',
);

it.each(wrappers)('%s, through a symbolic link and with CDPATH exported, finds its program', async (name) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'linked-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await symlink(path.join(SCRIPTS, name), path.join(folder, name));
  const answer = await new Promise((resolve) => {
    const env = { ...process.env, CDPATH: `.:${tmpdir()}` };
    execFile(path.join(folder, name), ['--help'], { cwd: folder, env }, (error, stdout) =>
      resolve({ status: error ? error.code : 0, said: stdout.split('\n')[0] }),
    );
  });
  expect(answer).toEqual({ status: 0, said: expect.stringContaining(`usage: scripts/${name}`) });
});
