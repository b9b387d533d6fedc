import { execFile } from 'node:child_process';
import path from 'node:path';
import { findQueueUrl } from '@orders/shared/queue-admin.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startEmulator } from '../dev/emulator.ts';
import { type OwnQueues, openQueues } from './queues.ts';

const ROOT = path.join(import.meta.dirname, '..');

type Answer = { status: unknown; stdout: string; stderr: string };

function run(script: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<Answer> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [script, ...args],
      // Nothing that is called wrongly comes as far as this endpoint.
      { cwd: ROOT, env: { ...process.env, AWS_ENDPOINT_URL: 'http://127.0.0.1:1', ...env } },
      (error, stdout, stderr) => resolve({ status: error ? error.code : 0, stdout, stderr }),
    );
  });
}

/** What each of them understands is tested in scripts/command.test.ts; here, that each does ask. */
it.each([
  ['scripts/deploy.ts', ['staging', '--image-tag=1']],
  ['scripts/rollback.ts', ['staging']],
  ['scripts/verify-deployment.ts', ['staging']],
  ['scripts/watch-release.ts', ['--namespace=staging']],
  ['scripts/check-images.ts', []],
  ['scripts/generate-docs.ts', []],
  ['bench/main.ts', []],
  ['bench/performance-test.ts', []],
  ['dev/demo.ts', []],
  ['dev/start.ts', []],
])('%s, called with a word too many, ends with 2 and the usage', async (script, args) => {
  const { status, stdout, stderr } = await run(script, [...args, 'one-more']);
  expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  expect(stderr).toContain('usage: ');
});

it('a command that is asked for help prints its usage and ends with 0', async () => {
  const { status, stdout, stderr } = await run('scripts/dlq.ts', ['--help']);
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  expect(stdout).toMatch(/^usage: scripts\/dlq.sh /);
});

describe('on queues that are there', () => {
  let emulator: Awaited<ReturnType<typeof startEmulator>>;
  let queues: OwnQueues;
  beforeAll(async () => {
    emulator = await startEmulator({ port: 0 });
    queues = await openQueues({ AWS_ENDPOINT_URL: emulator.endpoint });
  });
  afterAll(async () => {
    await queues[Symbol.asyncDispose]();
    await emulator.stop();
  });

  it.each([
    ['scripts/manage-queues.ts', ['delete', 'dev', 'my-old-test-queue']],
    ['scripts/dlq.ts', ['redrive', 'dev', '1']],
  ])('%s %j is refused, and nothing is done', async (script, args) => {
    const { status, stdout, stderr } = await run(script, args, queues.env as NodeJS.ProcessEnv);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toContain('usage: ');
    expect(await findQueueUrl(queues.client, queues.names.queue)).toBeDefined();
  });
});
