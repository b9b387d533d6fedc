import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, onTestFinished, test } from 'vitest';
import { overlay } from './testing/staging.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

/** kubectl of a cluster where somebody else has the lock. */
const KUBECTL = `#!/bin/sh
case "$*" in
  kustomize*) cat "$(dirname "$0")/overlay.yaml" ;;
  proxy*) echo 'Starting to serve on 127.0.0.1:1'; exec sleep 60 ;;
  *'get lease'*) echo '{"metadata":{"name":"x"},"spec":{"holderIdentity":"another","leaseDurationSeconds":60,"acquireTime":"2126-01-01T00:00:00.000000Z","renewTime":"2126-01-01T00:00:00.000000Z"}}' ;;
  *'get namespace'*) echo '{"metadata":{"name":"staging"}}' ;;
  *) echo 'Error from server (NotFound): it' >&2; exit 1 ;;
esac
`;

async function start(
  script: string,
  ...args: string[]
): Promise<{ child: ChildProcess; said: Promise<string>; complained: Promise<string> }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'deploy-'));
  await writeFile(path.join(folder, 'kubectl'), KUBECTL, { mode: 0o755 });
  await writeFile(path.join(folder, 'overlay.yaml'), overlay());
  const child = spawn(path.join(ROOT, 'scripts', script), ['staging', ...args], {
    // Where the locale of the machine is not installed, bash warns on standard error.
    env: { ...process.env, LC_ALL: 'C', PATH: `${folder}:${process.env['PATH']}` },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(async () => {
    child.kill('SIGKILL');
    await rm(folder, { recursive: true });
  });
  return { child, said: text(child.stdout), complained: text(child.stderr) };
}

test.each([
  ['deploy.sh', 'SIGTERM', ['--image-tag=v2', '--lock-wait-seconds=60']],
  ['rollback.sh', 'SIGINT', []],
] as const)('%s, told to stop by %s, ends itself, in good order', async (script, signal, args) => {
  const { child, said, complained } = await start(script, ...args);
  const ended = once(child, 'close');
  await once(child.stdout ?? child, 'data');
  child.kill(signal);
  expect(await ended).toEqual([1, null]);
  expect(await complained).toBe('');
  expect(await said).toMatch(
    /waits up to \d+ s: another deploys to staging since(.|\n)*stopped: broken off by the operator/,
  );
});

test('deploy.sh, killed, leaves no port open behind it', async () => {
  const { child, said } = await start('deploy.sh', '--image-tag=v2', '--lock-wait-seconds=60');
  await once(child.stdout ?? child, 'data');
  child.kill('SIGKILL');
  // The proxy would hold its end of the output open.
  expect(await said).toContain('waits up to 60 s');
});

test('deploy.sh, while another deploys, does not wait unless it is told to', async () => {
  const { child, said } = await start('deploy.sh', '--image-tag=v2');
  expect(await once(child, 'close')).toEqual([1, null]);
  expect(await said).toContain('stopped: another deploys to staging since');
});

test.each([
  ['production', false],
  ['dev', true],
])("a tool for %s reads the developer's .env: %s", async (environment, reads) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'deploy-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(path.join(folder, '.env'), 'LOG_LEVEL=from-the-file');
  const { LOG_LEVEL: _, ...env } = process.env;
  const child = spawn(process.execPath, [path.join(ROOT, 'scripts', 'dlq.ts'), 'status', environment], {
    cwd: folder,
    env: {
      ...env,
      AWS_ENDPOINT_URL: 'https://127.0.0.1:1',
      AWS_REGION: 'ap-northeast-2',
      AWS_ACCESS_KEY_ID: 'test',
      AWS_SECRET_ACCESS_KEY: 'test',
    },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const [[status], said] = await Promise.all([once(child, 'close'), text(child.stderr)]);
  expect(status).toBe(1);
  expect(said.includes('LOG_LEVEL')).toBe(reads);
});
