import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, openSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { text } from 'node:stream/consumers';
import {
  CreateQueueCommand,
  SendMessageCommand,
  SetQueueAttributesCommand,
  type SQSClient,
} from '@aws-sdk/client-sqs';
import { ensureQueues, findQueueUrl } from '@orders/shared/sqs/queue-admin.ts';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { sqsClient } from '../support/backends.ts';
import { opensslAvailable, startTlsProxy, TestAuthority } from '../support/certificates.ts';
import { eventually } from '../support/eventually.ts';
import { type OwnQueues, openQueues } from '../support/queues.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const openssl = opensslAvailable();

type Answer = { status: unknown; stdout: string; stderr: string };

function run(script: string, args: string[], env: NodeJS.ProcessEnv = {}, cwd = ROOT): Promise<Answer> {
  return new Promise((resolve) => {
    execFile(
      process.execPath,
      [path.join(ROOT, script), ...args],
      // Nothing that is called wrongly comes as far as this endpoint.
      { cwd, env: { ...process.env, AWS_ENDPOINT_URL: 'http://127.0.0.1:1', ...env } },
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
  ['scripts/dr-drill.ts', []],
  ['scripts/ack.ts', ['staging', 'SQS-Queue-Depth-High']],
  ['scripts/capacity.ts', ['production', '--orders-per-second=5000']],
  ['scripts/generate-docs.ts', []],
  ['bench/main.ts', []],
  ['bench/performance-test.ts', []],
  ['scripts/retention.ts', ['--keep-days=400', '--archive=old.gz']],
  ['dev/demo.ts', []],
  ['dev/start.ts', []],
  ['test/faults/campaign.ts', ['--trials=50', '--jobs=2', '--seed=264']],
  ['test/faults/mutations.ts', []],
  ['test/faults/report.ts', []],
  ['test/soak/soak.ts', []],
  ['test/api/fuzz.ts', []],
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

it.each(['', 'nonsense', 'prometheus:9090', 'ftp://prometheus'])(
  'watch-release, with PROMETHEUS_URL=%s, ends with 2 and the usage, and does not look',
  async (PROMETHEUS_URL) => {
    const { status, stdout, stderr } = await run('scripts/watch-release.ts', ['--minutes=0'], {
      PROMETHEUS_URL,
    });
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
    expect(stderr).toMatch(/^PROMETHEUS_URL must be a URL that begins with http.*\n\nusage: /);
  },
);

it.each([
  ['dev', 'read'],
  ['staging', ''],
])('performance-test.sh --namespace=%s, beside a .env, has it "%s"', async (namespace, read) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'dotenv-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  await writeFile(path.join(folder, '.env'), 'OF_DOTENV=read\n');
  // Says what it was started with, in place of a cluster.
  const kubectl = '#!/bin/sh\necho ".env was $OF_DOTENV" >&2\nexit 1\n';
  await writeFile(path.join(folder, 'kubectl'), kubectl, { mode: 0o755 });
  const args = [`--namespace=${namespace}`, '--target=http://127.0.0.1:1'];
  const env = { PATH: `${folder}:${process.env['PATH']}` };
  const { status, stderr } = await run('bench/performance-test.ts', args, env, folder);
  expect(status).toBe(1);
  expect(stderr).toContain(`.env was ${read}\n`);
});

it.each([
  ['bench/performance-test.ts', 'performance-test-'],
  ['test/soak/soak.ts', 'soak-'],
])('%s, broken off by Ctrl-C, leaves nothing behind', async (script, prefix) => {
  const folder = await mkdtemp(path.join(tmpdir(), 'broken-off-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const child = spawn(process.execPath, [script], {
    cwd: ROOT,
    env: { ...process.env, TMPDIR: folder },
    stdio: 'ignore',
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const ended = once(child, 'exit');
  const begun = async () => (await readdir(folder)).filter((name) => name.startsWith(prefix));
  await eventually(async () => expect(await begun()).toHaveLength(1));
  child.kill('SIGINT');
  expect(await ended).toEqual([130, null]);
  expect(await begun()).toEqual([]);
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

describe('a command', () => {
  it('with an option that npm has kept for itself, is refused, and nothing is done', async () => {
    const answer = await new Promise<Answer>((resolve) => {
      const args = ['run', '--silent', 'dlq', 'redrive', '--dry-run'];
      // Were it not refused, it would look for queues there.
      const env = { ...process.env, AWS_ENDPOINT_URL: 'http://127.0.0.1:1' };
      execFile('npm', args, { cwd: ROOT, env }, (error, stdout, stderr) =>
        resolve({ status: error ? error.code : 0, stdout, stderr }),
      );
    });
    expect(answer).toMatchObject({ status: 2, stdout: '' });
    expect(answer.stderr).toContain(
      'npm keeps --dry-run for itself: put -- between the command and its options',
    );
  });

  it.runIf(existsSync('/dev/full'))('whose output cannot be written, fails and says so', async () => {
    const full = openSync('/dev/full', 'w');
    onTestFinished(() => closeSync(full));
    const child = spawn(process.execPath, ['scripts/dlq.ts', '--help'], {
      cwd: ROOT,
      stdio: ['ignore', full, 'pipe'],
    });
    const said = text(child.stderr as Readable);
    expect(await once(child, 'close')).toEqual([1, null]);
    expect(await said).toMatch(/^the output cannot be written: ENOSPC/);
  });

  it('whose output is not read to its end, does not fail for it', async () => {
    const child = spawn(process.execPath, ['scripts/dlq.ts', '--help'], { cwd: ROOT, stdio: 'pipe' });
    child.stdout.destroy();
    const said = text(child.stderr);
    expect(await once(child, 'close')).toEqual([0, null]);
    expect(await said).toBe('');
  });

  it('with a wrong EMULATOR_PORT, names it', async () => {
    const env = { AWS_ENDPOINT_URL: '', EMULATOR_PORT: '99999' };
    const { status, stderr } = await run('scripts/dlq.ts', ['status'], env);
    expect({ status, stderr }).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('EMULATOR_PORT: '),
    });
  });

  it('for an environment that is asked for at an endpoint, says which', async () => {
    const env = { AWS_ENDPOINT_URL: 'https://127.0.0.1:1' };
    const { stderr } = await run('scripts/dlq.ts', ['status', 'production'], env);
    expect(stderr).toMatch(
      /^for production, this asks https:\/\/127.0.0.1:1 \(AWS_ENDPOINT_URL\), not AWS\n/,
    );
  });

  it.each(['producer', 'consumer'])(
    'npm run %s, with words that no service takes, does not start',
    async (service) => {
      const { status, stdout, stderr } = await run(`${service}/src/main.ts`, ['--help']);
      expect({ status, stdout }).toEqual({ status: 1, stdout: '' });
      expect(stderr).toMatch(/^order-\w+: not understood: --help; environment variables configure it/);
    },
  );
});

describe('manage-queues.sh', () => {
  let emulator: Awaited<ReturnType<typeof startEmulator>>;
  let client: SQSClient;
  const env = () => ({
    AWS_ENDPOINT_URL: emulator.endpoint,
    ALLOW_PLAINTEXT: 'sqs',
    AWS_ACCESS_KEY_ID: 'test',
    AWS_SECRET_ACCESS_KEY: 'test',
  });
  const names = { queue: 'order-queue', deadLetterQueue: 'order-dlq' };
  const manageWith = (own: NodeJS.ProcessEnv, ...args: string[]) =>
    run('scripts/manage-queues.ts', args, { ...env(), ...own });
  const manage = (...args: string[]) => manageWith({}, ...args);
  const areThere = async () =>
    (await Promise.all(Object.values(names).map((name) => findQueueUrl(client, name)))).map(
      (url) => url !== undefined,
    );
  beforeEach(async () => {
    emulator = await startEmulator({ port: 0 });
    client = sqsClient(env());
  });
  afterEach(async () => {
    client.destroy();
    await emulator.stop();
  });

  it('delete, of queues that are tagged as those of another environment, refuses, whatever is confirmed', async () => {
    await ensureQueues(client, 'production', names);
    for (const environment of ['staging', 'dev']) {
      const { status, stderr } = await manage('delete', environment, ...confirmation(environment));
      expect(status).toBe(1);
      expect(stderr).toContain('not deleted: order-queue is tagged as that of production');
    }
    expect(await areThere()).toEqual([true, true]);
  });

  it('for production, refuses an endpoint without TLS, and any exception', async () => {
    const { status, stderr } = await manage('create', 'production');
    expect({ status, stderr }).toMatchObject({
      status: 1,
      stderr: expect.stringContaining('ALLOW_PLAINTEXT: is for tests, and refused in production'),
    });
    const encrypted = await manageWith({ ALLOW_PLAINTEXT: '' }, 'create', 'production');
    expect(encrypted.stderr).toContain('AWS_ENDPOINT_URL: must begin with https: outside dev');
    expect(await areThere()).toEqual([false, false]);
  });

  it.skipIf(!openssl.available)(
    `delete, of queues without a tag that are shaped as those of another environment, refuses (${openssl.reason})`,
    async () => {
      using authority = new TestAuthority();
      const proxy = await startTlsProxy(emulator.endpoint, authority.issue());
      onTestFinished(() => proxy.stop());
      for (const QueueName of Object.values(names)) await client.send(new CreateQueueCommand({ QueueName }));
      const production = {
        AWS_ENDPOINT_URL: `https://localhost:${proxy.port}`,
        ALLOW_PLAINTEXT: '',
        NODE_EXTRA_CA_CERTS: authority.file,
      };
      const { status, stderr } = await manageWith(
        production,
        'delete',
        'production',
        '--confirm=order-queue',
      );
      expect({ status, stderr }).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('order-dlq has no key and no tag'),
      });
      expect(await areThere()).toEqual([true, true]);
    },
  );

  it('delete, outside of dev, shows account, region, ARN and depth, and wants the name of the queue', async () => {
    const { queue } = await ensureQueues(client, 'staging', names);
    await client.send(new SendMessageCommand({ QueueUrl: queue.url, MessageBody: 'x' }));
    for (const args of [[], ['--confirm=order-dlq']]) {
      const { status, stdout, stderr } = await manage('delete', 'staging', ...args);
      expect({ status, stderr }).toMatchObject({
        status: 1,
        stderr: expect.stringContaining('not confirmed (--confirm=order-queue'),
      });
      expect(stdout).toContain(
        'order-queue: account 000000000000, region ap-northeast-2, arn:aws:sqs:ap-northeast-2:000000000000:order-queue, 1 messages\n',
      );
    }
    expect(await areThere()).toEqual([true, true]);
    expect(await manage('delete', 'staging', '--confirm=order-queue')).toMatchObject({ status: 0 });
    expect(await areThere()).toEqual([false, false]);
  });

  it('create, of queues that differ by a key that somebody chose, says what it left', async () => {
    const { queue } = await ensureQueues(client, 'staging', names);
    await client.send(
      new SetQueueAttributesCommand({
        QueueUrl: queue.url,
        Attributes: { DelaySeconds: '900', KmsMasterKeyId: 'alias/ours' },
      }),
    );
    const { status, stdout } = await manage('create', 'staging');
    expect(status).toBe(0);
    expect(stdout).toContain('order-queue: DelaySeconds is 900, will be 0\n');
    expect(stdout).toContain(
      'order-queue: KmsMasterKeyId is left as it is: alias/ours, where the definition says none\n',
    );
  });
});

/** In dev, nobody is asked. */
const confirmation = (environment: string) => (environment === 'dev' ? [] : ['--confirm=order-queue']);
