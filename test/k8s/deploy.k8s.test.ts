import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { json, text } from 'node:stream/consumers';
import { queueAttributes } from '@orders/shared/queue-admin.ts';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { readManifests } from '../../scripts/deploy/manifests.ts';
import { sqsClient } from '../backends.ts';
import { eventually } from '../eventually.ts';
import { allStored } from '../load.ts';
import { buildImage, clusterAvailable, forwardPort, kubectlFor, loadImages } from './cluster.ts';
import { type LoadPod, startLoadPod } from './load-pod.ts';

vi.setConfig({ testTimeout: 300_000, hookTimeout: 600_000 });

const ROOT = path.join(import.meta.dirname, '..', '..');
const OVERLAY = 'test/k8s/staging';
const NAMESPACE = 'staging';
const TEST_LABEL = 'order-pipeline/test';
const QUEUE_URL = '/000000000000/order-dlq';
const kubectl = kubectlFor(NAMESPACE);
const cluster = await clusterAvailable();

/** What makes a release bad, as an edit of its source. */
const EDITS = {
  'rejects-everything': ['consumer', 'shared/src/order.ts', 's/return `v1:/return `v1:x/'],
  'migration-fails': [
    'consumer',
    'consumer/src/adapters/migrations.ts',
    's/POSTGRES_MIGRATIONS: Migration\\[\\] = \\[/&{version: 2, sql: "ALTER TABLE orders ADD COLUMN note text; SELECT 1 \\/ 0"},/',
  ],
  'refuses-customers': [
    'producer',
    'producer/src/domain/place-order.ts',
    's/const hash = contentHash(request);/&if (request.customerId !== "SYNTHETIC-CHECK") throw new Error("bad release");/',
  ],
} as const;

describe.skipIf(!cluster.available)(`deployment (${cluster.reason})`, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'deploy-'));
  const deployerConfig = path.join(folder, 'deployer');
  let load: LoadPod;
  let queues: Awaited<ReturnType<typeof forwardPort>>;
  const alerts: { severity: string; text: string }[] = [];
  const webhook = http.createServer(async (request, response) => {
    alerts.push((await json(request)) as (typeof alerts)[number]);
    response.end();
  });

  /** The rights of the pipeline, and no others; only the Secrets of the local backends are ours to apply. */
  const becomeDeployer = async () => {
    await kubectl('apply', '-k', 'k8s/deployer');
    await kubectl('create', 'role', 'local-secrets', '--verb=get,create,patch', '--resource=secrets');
    await kubectl(
      'create',
      'rolebinding',
      'local-secrets',
      '--role=local-secrets',
      '--group=order-deployers',
    );
    const config = JSON.parse(await kubectl('config', 'view', '--raw', '--minify', '-o', 'json'));
    Object.assign(config.users[0].user, {
      as: 'pipeline',
      'as-groups': ['order-deployers', 'system:authenticated'],
    });
    await writeFile(deployerConfig, JSON.stringify(config));
  };
  /** A command as an operator types it, and all it says. */
  const start = (script: string, args: string[] = [], env: Record<string, string> = {}) => {
    const child = spawn(process.execPath, [path.join('scripts', `${script}.ts`), NAMESPACE, ...args], {
      cwd: ROOT,
      env: {
        ...process.env,
        KUBECONFIG: deployerConfig,
        AWS_ENDPOINT_URL: `http://127.0.0.1:${queues.port}`,
        ALERT_WEBHOOK_URL: `http://127.0.0.1:${(webhook.address() as AddressInfo).port}`,
        AWS_ACCESS_KEY_ID: 'test',
        AWS_SECRET_ACCESS_KEY: 'test',
        ...env,
      },
    });
    let decidedAt = 0;
    child.stdout.on('data', (chunk) => {
      if (String(chunk).includes('FAILED:')) decidedAt = Date.now();
    });
    const said = Promise.all([once(child, 'close'), text(child.stdout), text(child.stderr)]).then(
      ([[status], stdout, stderr]) => {
        if (process.env['SHOW_OUTPUT']) console.log(`$ ${script} ${args.join(' ')}\n${stdout}${stderr}`);
        return { status: status as number, said: stdout + stderr, decidedAt };
      },
    );
    return { child, said };
  };
  const deploy = (tag: string, ...args: string[]) =>
    start('deploy', [`--image-tag=${tag}`, `--overlay=${OVERLAY}`, '--watch-seconds=4', ...args]);
  const image = async (service: 'producer' | 'consumer') =>
    (await kubectl.json(`get`, `deployment/order-${service}`)).spec.template.spec.containers[0].image;
  const only = async (tag: string) => {
    expect(await image('producer')).toBe(`order-producer:${tag}`);
    expect(await image('consumer')).toBe(`order-consumer:${tag}`);
    const names = (await kubectl('get', 'deployments,services', '-o', 'name')).split('\n');
    expect(names.filter((name) => /candidate|preview/.test(name))).toEqual([]);
    expect((await kubectl.json('get', 'service/order-producer')).spec.selector.track).toBe('stable');
  };
  const deadLetters = async () => {
    const url = `http://127.0.0.1:${queues.port}`;
    const attributes = await queueAttributes(sqsClient({ AWS_ENDPOINT_URL: url }), `${url}${QUEUE_URL}`);
    return (
      Number(attributes.ApproximateNumberOfMessages) +
      Number(attributes.ApproximateNumberOfMessagesNotVisible)
    );
  };

  beforeAll(async () => {
    webhook.listen(0, '127.0.0.1');
    await buildImages();
    await freshNamespace();
    const overlay = await kubectlFor()('kustomize', OVERLAY);
    const { others } = readManifests(overlay, 'v1');
    await kubectl.withInput(
      JSON.stringify({ apiVersion: 'v1', kind: 'List', items: others }),
      'apply',
      '-f',
      '-',
    );
    for (const name of ['localstack', 'postgres'])
      await kubectl('rollout', 'status', `deployment/${name}`, '--timeout=180s');
    await becomeDeployer();
    queues = await forwardPort(NAMESPACE, 'svc/localstack', 4566);
    const first = await deploy('v1').said;
    expect(first).toMatchObject({ status: 0, said: expect.stringContaining('first deployment') });
    await kubectl('scale', 'deployment/order-producer', 'deployment/order-consumer', '--replicas=2');
    await kubectl('rollout', 'status', 'deployment/order-producer');
    await kubectl('rollout', 'status', 'deployment/order-consumer');
    load = await startLoadPod({ namespace: NAMESPACE, image: 'order-producer:v1', clients: 10, pauseMs: 50 });
    await load.more(20);
  });

  afterAll(async () => {
    await load?.stop();
    await queues?.[Symbol.asyncDispose]();
    webhook.close();
    rmSync(folder, { recursive: true });
    if (cluster.available) await kubectlFor()('delete', 'namespace', NAMESPACE, '--wait=false');
  });

  /** No order was refused since then; all that were accepted are stored, and nothing is in the DLQ. */
  const nothingLost = async (failedBefore: number) => {
    expect(load.failed().slice(failedBefore)).toEqual([]);
    await using lookUp = await forwardPort(NAMESPACE, 'svc/order-consumer', 8081);
    await allStored(`http://127.0.0.1:${lookUp.port}`, load.accepted());
    await eventually(async () => expect(await deadLetters()).toBe(0));
  };

  test('dry run, of a new release, says the steps and changes nothing', async () => {
    const { status, said } = await deploy('v2', '--dry-run').said;
    expect(status).toBe(0);
    expect(said).toMatch(/would do 2\/9: order-consumer: 1 candidate beside 2/);
    await only('v1');
  });

  test('deployment under load, while a second one is tried, goes through without a failed request', async () => {
    const failedBefore = load.failed().length;
    const first = deploy('v2');
    await eventually(async () => expect(await kubectl('get', 'lease', '-o', 'name')).toContain('deployment'));
    await eventually(async () =>
      expect(await kubectl('get', 'deployments', '-o', 'name')).toContain('candidate'),
    );
    const second = await deploy('v1').said;
    expect(second).toMatchObject({ status: 1, said: expect.stringContaining('deploys to staging since') });
    expect(await first.said).toMatchObject({ status: 0 });
    await only('v2');
    expect(alerts.at(-1)).toEqual({ severity: 'info', text: 'v2 is deployed to staging' });
    await nothingLost(failedBefore);
    expect(await deploy('v2').said).toMatchObject({
      status: 0,
      said: expect.stringContaining('deployed already'),
    });
    expect(await start('verify-deployment', ['--watch-seconds=2']).said).toMatchObject({ status: 0 });
  });

  test('rollback under load, of a deployment, brings both back without a failed request, and once', async () => {
    const failedBefore = load.failed().length;
    expect(await start('rollback').said).toMatchObject({ status: 0 });
    await only('v1');
    expect(alerts.at(-1)).toEqual({ severity: 'info', text: 'staging is back on v1' });
    await nothingLost(failedBefore);
    expect(await start('rollback').said).toMatchObject({
      status: 1,
      said: expect.stringContaining('no earlier deployment'),
    });
  });

  test('deployment, of a consumer that rejects everything, goes back and redrives what it dead-lettered', async () => {
    const failedBefore = load.failed().length;
    const { status, said } = await deploy('rejects-everything').said;
    expect(status).toBe(1);
    expect(
      Number(/(\d+) messages that rejects-everything had dead-lettered are back/.exec(said)?.[1]),
    ).toBeGreaterThan(0);
    await only('v1');
    await nothingLost(failedBefore);
  });

  test('deployment, of a producer that fails after the switch, is off again for all clients', async () => {
    const failedBefore = load.failed().length;
    const { status, said, decidedAt } = await deploy('refuses-customers').said;
    expect(status).toBe(1);
    expect(said).toContain('traffic to the candidate');
    await only('v1');
    const failures = load.failed().slice(failedBefore);
    expect(failures.length).toBeGreaterThan(0);
    expect(failures.filter(({ status }) => status !== 500)).toEqual([]);
    const last = failures.at(-1)?.at ?? 0;
    console.log(
      `${failures.length} refused; the last one ${last - decidedAt} ms after the decision to go back`,
    );
    // They keep their connections, and are all on the old release again.
    await load.more(50);
    expect(load.failed().slice(failedBefore)).toHaveLength(failures.length);
  });

  test.each([
    ['no registry has', 'no-such-tag', 'ImagePull'],
    ['whose migration fails', 'migration-fails', 'division by zero'],
  ])('deployment, of a release %s, says so and leaves the live one serving', async (_which, tag, reason) => {
    const failedBefore = load.failed().length;
    const { status, said } = await deploy(tag).said;
    expect(status).toBe(1);
    expect(said).toContain(reason);
    expect(said).toContain('deployment/order-producer: release v1, 2 of 2 available');
    await only('v1');
    await nothingLost(failedBefore);
  });

  test('deployment, killed half-way and run again after its lock has ended, goes on', async () => {
    const failedBefore = load.failed().length;
    const killed = deploy('v2');
    await eventually(
      async () =>
        expect((await kubectl.json('get', 'service/order-producer')).spec.selector.track).toBe('candidate'),
      120_000,
    );
    killed.child.kill('SIGKILL');
    await killed.said;
    expect((await deploy('v2').said).said).toContain('If it has died, its lock ends at');
    // As if the minute had passed.
    const past = '{"spec":{"renewTime":"2026-01-01T00:00:00.000000Z"}}';
    await kubectl('patch', 'lease', 'order-pipeline-deployment', '--type=merge', '-p', past);
    const resumed = await deploy('v2').said;
    expect(resumed).toMatchObject({
      status: 0,
      said: expect.stringContaining('goes on with a deployment that broke off'),
    });
    await only('v2');
    await nothingLost(failedBefore);
  });

  test('deployment, with an expired token or no cluster, says so and changes nothing', async () => {
    const config = JSON.parse(await kubectl('config', 'view', '--raw', '-o', 'json'));
    const deployWith = async (name: string, kubeconfig: unknown) => {
      const file = path.join(folder, name);
      await writeFile(file, JSON.stringify(kubeconfig));
      return start('deploy', [`--image-tag=v1`, `--overlay=${OVERLAY}`], { KUBECONFIG: file }).said;
    };
    const expired = structuredClone(config);
    expired.users[0].user = { token: 'expired' };
    const unauthorized = await deployWith('expired', expired);
    expect(unauthorized).toMatchObject({ status: 1, said: expect.stringMatching(/Unauthorized|logged in/) });
    const away = structuredClone(config);
    away.clusters[0].cluster.server = 'https://127.0.0.1:1';
    const unreachable = await deployWith('away', away);
    expect(unreachable).toMatchObject({ status: 1, said: expect.stringContaining('run this again') });
    await only('v2');
  });
});

/** v1 as the repository is; the others are v1 with another name, and the bad ones with an edit of their source. */
async function buildImages(): Promise<void> {
  const images = [];
  for (const service of ['producer', 'consumer'] as const) {
    images.push(await buildImage(service, 'v1'));
    for (const tag of ['v2', ...Object.keys(EDITS)]) {
      const [edited, file, edit] = EDITS[tag as keyof typeof EDITS] ?? [];
      const lines = [`FROM order-${service}:v1`, `ENV RELEASE_VERSION=${tag}`];
      if (edited === service) {
        // An edit that changes nothing would make a good release of a bad one.
        lines.push(
          'USER 0',
          `RUN cp ${file} /tmp/before && sed -i '${edit}' ${file} && ! cmp -s ${file} /tmp/before`,
          'USER 1000',
        );
      }
      const name = `order-${service}:${tag}`;
      const built = spawnSync('docker', ['build', '-q', '-t', name, '-'], {
        input: lines.join('\n'),
        encoding: 'utf8',
      });
      if (built.status !== 0) throw new Error(`docker build of ${name}: ${built.stderr}`);
      images.push(name);
    }
  }
  await loadImages(...images);
}

/** An empty `staging`. One that is not ours is not touched. */
async function freshNamespace(): Promise<void> {
  const any = kubectlFor();
  const found = await any.json('get', 'namespace', NAMESPACE).catch(() => undefined);
  if (found && (found.metadata as { labels?: Record<string, string> }).labels?.[TEST_LABEL] !== 'true')
    throw new Error(`the cluster has a namespace ${NAMESPACE} that no test made`);
  if (found) await any('delete', 'namespace', NAMESPACE, '--timeout=120s');
  await any('apply', '-f', 'k8s/overlays/staging/namespace.yaml');
  await any('label', 'namespace', NAMESPACE, `${TEST_LABEL}=true`);
}
