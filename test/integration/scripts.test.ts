import { execFile } from 'node:child_process';
import { copyFile, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { type Command, usage } from '../../scripts/command.ts';
import { COMMANDS } from '../../scripts/commands.ts';

const SCRIPTS = path.join(import.meta.dirname, '..', '..', 'scripts');
const wrappers = (await readdir(SCRIPTS)).filter(
  (name) => name.endsWith('.sh') && name !== 'compose-smoke.sh',
);

type Answer = { status: unknown; stdout: string; stderr: string };

function run(
  file: string,
  args: string[],
  options: { cwd?: string; env?: NodeJS.ProcessEnv },
): Promise<Answer> {
  return new Promise((resolve) => {
    execFile(file, args, { ...options, env: { ...process.env, ...options.env } }, (error, stdout, stderr) =>
      resolve({ status: error ? error.code : 0, stdout, stderr }),
    );
  });
}

async function ownFolder(): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'scripts-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  return folder;
}

it.each(wrappers)(
  '%s, through a symbolic link, with CDPATH exported and a locale that is not installed, prints its usage and nothing else',
  async (name) => {
    const folder = await ownFolder();
    await symlink(path.join(SCRIPTS, name), path.join(folder, name));
    const env = { CDPATH: `.:${tmpdir()}`, LC_ALL: 'xx_XX.UTF-8' };
    const { status, stdout } = await run(path.join(folder, name), ['--help'], { cwd: folder, env });
    const command = COMMANDS.find((command) => command.name === `scripts/${name}`) as Command;
    expect({ status, stdout }).toEqual({ status: 0, stdout: `${usage(command)}\n` });
  },
);

it.each([
  ['', 2],
  ['--no-such-option', 2],
  ['4.14.0 one-more', 2],
  ['--help', 0],
])('compose-smoke.sh, called with "%s", prints its usage and ends with %i', async (words, wanted) => {
  const script = path.join(SCRIPTS, 'compose-smoke.sh');
  // Were they understood: no engine.
  const env = { DOCKER_HOST: 'unix:///nowhere', LC_ALL: 'C' };
  const { status, stdout, stderr } = await run(script, words.split(' '), { env });
  expect(status).toBe(wanted);
  expect(wanted === 0 ? stdout : stderr).toBe('usage: scripts/compose-smoke.sh [LOCALSTACK_VERSION]\n');
});

it('reconcile.sh, in a fresh clone, installs without a word on standard output', async () => {
  const folder = await ownFolder();
  await mkdir(path.join(folder, 'scripts'));
  for (const name of ['reconcile.sh', 'prepare.mjs', 'installation.mjs'])
    await copyFile(path.join(SCRIPTS, name), path.join(folder, 'scripts', name));
  const project = { name: 'clone', version: '0.0.0' };
  const scripts = { reconcile: `echo '{"verdict":"ok"}'` };
  await writeFile(path.join(folder, 'package.json'), JSON.stringify({ ...project, scripts }));
  const lock = { ...project, lockfileVersion: 3, requires: true, packages: { '': project } };
  await writeFile(path.join(folder, 'package-lock.json'), JSON.stringify(lock));
  const script = path.join(folder, 'scripts', 'reconcile.sh');
  const env = { PATH: `${path.dirname(process.execPath)}:${process.env['PATH']}` };
  const { status, stdout, stderr } = await run(script, [], { cwd: folder, env });
  expect({ status, stdout }).toEqual({ status: 0, stdout: '{"verdict":"ok"}\n' });
  expect(stderr).toContain('installing dependencies');
});
