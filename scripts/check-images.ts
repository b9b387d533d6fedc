import { spawn } from 'node:child_process';
import { globSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { startEmulator } from '../dev/emulator.ts';
import { freePorts } from '../dev/port-owner.ts';
import { defineCommand, flag, runCommand, type ValuesOf } from './command.ts';
import { bytesOf, differences, faults, type Listing, onTopOf, parseListing } from './images/listing.ts';

export const command = defineCommand({
  name: 'npm run images:check --',
  forContributors: true,
  summary:
    'Builds both images, or one of them, twice: the second time from a copy of the sources with other timestamps and modes. Checks that both builds have the same files, what the images contain, and that they start, respond and stop without a shell and with a read-only root.',
  positionals: {},
  options: {
    quick: flag('builds once, with the cache'),
    service: {
      takes: 'NAME',
      description: 'only this service',
      schema: z.enum(['producer', 'consumer']).optional(),
    },
  },
  changes: 'leaves the images order-producer:check and order-consumer:check.',
  needs: 'Docker. NODE_IMAGE selects another base image.',
  exitStatuses: { 0: 'all is well', 1: 'something is wrong' },
});

const ROOT = path.join(import.meta.dirname, '..');
const SERVICES = ['producer', 'consumer'] as const;
type Service = (typeof SERVICES)[number];
const [, DEFAULT_BASE = ''] =
  /^ARG NODE_IMAGE=(.+)$/m.exec(readFileSync(path.join(ROOT, 'Dockerfile'), 'utf8')) ?? [];
const BASE = process.env['NODE_IMAGE'] || DEFAULT_BASE;
const LABELS = {
  SOURCE: 'https://example.com/orders',
  REVISION: 'r1',
  VERSION: 'v1',
  CREATED: '2026-01-02T03:04:05Z',
};
/** From its start to ready, on a machine that has nothing else to do; one that has may take so many times as long. */
const READY_MS = 2_000;
const BUSY_FACTOR = 3;
const READY_POLL_MS = 10;
const READY_TIMEOUT_MS = 30_000;

let failed = 0;
function report(what: string, problems: string[]): void {
  if (problems.length > 0) failed += 1;
  console.log(`${problems.length > 0 ? 'FAIL' : 'PASS'} ${what}`);
  for (const problem of problems.slice(0, 20)) console.log(`     ${problem}`);
  if (problems.length > 20) console.log(`     and ${problems.length - 20} more`);
}

if (import.meta.main) await runCommand(command, main);

async function main({ quick, service: only }: ValuesOf<typeof command>): Promise<number> {
  await docker('version').catch((error) => {
    throw new Error('images are built and run with Docker, and none answers', { cause: error });
  });
  report('Dockerfile, says dockerfilelint', await lint());
  const base = await filesOf(BASE);
  for (const service of only ? [only] : SERVICES) await check(service, base, quick);
  return failed === 0 ? 0 : 1;
}

async function check(service: Service, base: Listing, quick: boolean): Promise<void> {
  const image = `order-${service}:check`;
  await build(service, image, ROOT, quick);
  const files = await filesOf(image);
  if (!quick) {
    const again = `order-${service}:check-again`;
    const copy = await copyOfTheContext();
    await build(service, again, copy, quick);
    await rm(copy, { recursive: true });
    report(`${image} has the same files when it is built again`, differences(files, await filesOf(again)));
    const [first, second] = [await inspect(image), await inspect(again)];
    report(
      `${image} has the same layers when it is built again`,
      unequal('layers', first.RootFS, second.RootFS),
    );
    await docker('rmi', again);
  }
  report(
    `${image} holds what it needs, closed to writing, and nothing else`,
    faults(base, files, developmentTools()),
  );
  report(`${image} says who it is and what it runs`, await configurationFaults(image, service));
  printContents(onTopOf(base, files));
  await run(service, image);
}

/** Packages that are in the lock file for development only. */
function developmentTools(): string[] {
  const lock: { packages: Record<string, { dev?: boolean }> } = JSON.parse(
    readFileSync(path.join(ROOT, 'package-lock.json'), 'utf8'),
  );
  const names = (dev: boolean) =>
    Object.entries(lock.packages)
      .filter(([, entry]) => (entry.dev ?? false) === dev)
      .map(([place]) => place.split('node_modules/').at(-1) ?? '');
  const needed = new Set(names(false));
  return names(true).filter((name) => !needed.has(name));
}

function unequal(what: string, actual: unknown, expected: unknown): string[] {
  const [found, wanted] = [JSON.stringify(actual), JSON.stringify(expected)];
  return found === wanted ? [] : [`${what}: ${found}, not ${wanted}`];
}

async function lint(): Promise<string[]> {
  const { status, output } = await execute('npx', ['--yes', 'dockerfilelint@1.8.0', 'Dockerfile']);
  return status === 0 ? [] : output.trim().split('\n');
}

async function build(service: Service, tag: string, context: string, useCache: boolean): Promise<void> {
  const args = { ...LABELS, NODE_IMAGE: BASE };
  await docker(
    'build',
    ...(useCache ? [] : ['--no-cache']),
    ...Object.entries(args).flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
    ...['--target', service, '--tag', tag, context],
  );
}

/** As a checkout at another time by someone with another umask. */
async function copyOfTheContext(): Promise<string> {
  const copy = await mkdtemp(path.join(tmpdir(), 'image-context-'));
  const inContext = [
    'Dockerfile',
    '.dockerignore',
    'package*.json',
    '*/package.json',
    '{shared,producer,consumer}/src/**',
    'scripts/images/strip-types.mjs',
  ];
  for (const entry of globSync(inContext, { cwd: ROOT, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    const target = path.join(copy, path.relative(ROOT, file));
    await mkdir(path.dirname(target), { recursive: true, mode: 0o700 });
    await writeFile(target, await readFile(file), { mode: 0o600 });
  }
  return copy;
}

async function filesOf(image: string): Promise<Listing> {
  const script = readFileSync(path.join(ROOT, 'scripts/images/list-files.mjs'), 'utf8');
  const walk = ['node', '--input-type=module', '-'];
  const flags = ['--rm', '--interactive', '--network=none', '--read-only', '--user=0', '--entrypoint='];
  const { status, output } = await execute('docker', ['run', ...flags, image, ...walk], script);
  if (status !== 0) throw new Error(`cannot list the files of ${image}: ${output}`);
  return parseListing(output);
}

type Inspected = {
  RootFS: { Layers: string[] };
  Config: {
    User: string;
    Cmd: string[];
    Entrypoint: string[] | null;
    Labels: Record<string, string>;
    Healthcheck?: { Test: string[] };
  };
};
async function inspect(image: string): Promise<Inspected> {
  return JSON.parse(await docker('inspect', image))[0];
}

async function configurationFaults(image: string, service: Service): Promise<string[]> {
  const { Config } = await inspect(image);
  const label = (name: string) => Config.Labels[`org.opencontainers.image.${name}`];
  return [
    ...unequal('user', Config.User, '1000:1000'),
    ...unequal('entry point', Config.Entrypoint ?? [], []),
    ...unequal('command', [Config.Cmd.at(0), Config.Cmd.at(-1)], ['node', `${service}/src/main.js`]),
    ...unequal('health check', Config.Healthcheck?.Test.slice(0, 2), ['CMD', 'node']),
    ...unequal('title', label('title'), `order-${service}`),
    ...Object.entries(LABELS).flatMap(([name, value]) => unequal(name, label(name.toLowerCase()), value)),
  ];
}

function printContents(added: ReturnType<typeof onTopOf>): void {
  const megabytes = (bytes: number) => `${(bytes / 1e6).toFixed(1)} MB`;
  const inModules = (name: string) =>
    added.filter(({ path }) => path.startsWith(`/app/node_modules/${name}`));
  const names = new Set(
    added.map(({ path }) => /\/node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path)?.[1] ?? ''),
  );
  const largest = [...names]
    .filter(Boolean)
    .map((name): [string, number] => [name, bytesOf(inModules(`${name}/`))])
    .sort(([, a], [, b]) => b - a)
    .slice(0, 8)
    .map(([name, bytes]) => `${name} ${megabytes(bytes)}`);
  const own = bytesOf(added.filter(({ path }) => !path.includes('/node_modules/')));
  console.log(`     ${megabytes(bytesOf(added))} on top of the base in ${added.length} files and folders`);
  console.log(
    `     our own ${megabytes(own)}; ${names.size - 1} packages, the largest: ${largest.join(', ')}`,
  );
}

/** As a strict platform runs it: no privileges, a read-only root, and, what is more, no program but Node. */
async function run(service: Service, image: string): Promise<void> {
  const [port = 0] = await freePorts(1);
  const emulator = await startEmulator({ port: 0 });
  const name = `check-${service}-${process.pid}`;
  const env = {
    APP_ENV: 'dev',
    HOST: '127.0.0.1',
    AWS_ENDPOINT_URL: emulator.endpoint,
    DATABASE_URL: 'sqlite:/tmp/orders.db',
    [`${service.toUpperCase()}_PORT`]: String(port),
  };
  try {
    await docker(
      ...['run', '--detach', `--name=${name}`, '--network=host', '--read-only', '--tmpfs=/tmp:mode=1777'],
      ...[
        '--cap-drop=ALL',
        '--security-opt=no-new-privileges',
        '--tmpfs=/usr/bin:ro',
        '--tmpfs=/usr/sbin:ro',
      ],
      ...Object.entries(env).flatMap(([key, value]) => ['--env', `${key}=${value}`]),
      image,
    );
    const ready = await readyAt(`http://127.0.0.1:${port}/readyz`);
    const { StartedAt } = JSON.parse(await docker('inspect', '--format={{json .State}}', name));
    const problems = ready ? [] : [`not ready in ${READY_TIMEOUT_MS} ms`, ...(await logs(name))];
    report(`${image} becomes ready, without a shell and with a read-only root`, problems);
    if (ready !== undefined) {
      const [tookMs, mostMs] = [ready - Date.parse(StartedAt), READY_MS * BUSY_FACTOR];
      report(
        `${image} is ready ${tookMs} ms after its start (bar: ${READY_MS} ms; where others work ${mostMs} ms)`,
        tookMs <= mostMs ? [] : [`that is more than ${mostMs} ms`],
      );
    }
    const { Config } = await inspect(image);
    const healthCheck = Config.Healthcheck?.Test.slice(1) ?? ['false'];
    const healthy = await execute('docker', ['exec', name, ...healthCheck]);
    const alone = await execute('docker', ['run', '--rm', '--network=none', image, ...healthCheck]);
    report(`${image} has a health check that tells alive from dead`, [
      ...unequal('of a service that runs', healthy.status, 0),
      ...unequal('of one that does not', alone.status, 1),
    ]);
    await docker('stop', '--time=45', name);
    const exit = await docker('inspect', '--format={{.State.ExitCode}}', name);
    report(`${image} ends on SIGTERM`, unequal('exit status', exit.trim(), '0'));
  } finally {
    await execute('docker', ['rm', '--force', name]);
    await emulator.stop();
  }
}

async function readyAt(url: string): Promise<number | undefined> {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  while (Date.now() < deadline) {
    const ok = await fetch(url).then(
      (response) => response.ok,
      () => false,
    );
    if (ok) return Date.now();
    await sleep(READY_POLL_MS);
  }
  return undefined;
}

async function logs(name: string): Promise<string[]> {
  const { output, errors } = await execute('docker', ['logs', '--tail=20', name]);
  return `${output}${errors}`.trim().split('\n');
}

/** @throws with what Docker said */
async function docker(...args: string[]): Promise<string> {
  const { status, output, errors } = await execute('docker', args);
  if (status !== 0)
    throw new Error(`docker ${args[0]} ended with ${status}\n${output.slice(-2_000)}${errors}`);
  return output;
}

async function execute(program: string, args: string[], input = '') {
  const child = spawn(program, args, { cwd: ROOT, stdio: ['pipe', 'pipe', 'pipe'] });
  child.stdin.end(input);
  const ended = new Promise<number | null>((resolve, reject) =>
    child.on('error', reject).on('close', resolve),
  );
  const [output, errors, status] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  return { status, output, errors };
}
