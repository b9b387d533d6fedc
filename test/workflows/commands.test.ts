import { exec } from 'node:child_process';
import { accessSync, constants, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ROOT, SCRIPTS, steps } from './workflows.ts';

/**
 * The commands that a text of shell names, with the arguments that it gives them, as far as they are this repository's.
 * `npm run` is what its script says.
 */
function commandsOf(shell: string): string[] {
  const lines = shell.replaceAll(/\\\n\s*/g, '').split('\n');
  return lines.flatMap((line) => {
    const [, npm, file] =
      /\b(npm (?:run|test)\b[^|;&)]*)|(?<![\w/.])((?:scripts|\.ci)\/[^|;&)]+)/.exec(line) ?? [];
    if (npm) return npmCommands(npm.trim());
    return file ? [file.trim()] : [];
  });
}

function npmCommands(line: string): string[] {
  const [, flags = '', named = '', args = ''] =
    /^npm (?:run|test)((?: --[\w-]+)*)(?: ([\w:-]+))?(?: -- (.+))?$/.exec(line) ?? [];
  const script = line.startsWith('npm test') ? 'test' : named;
  if (flags.includes('--if-present') && !(script in SCRIPTS)) return [];
  const before = SCRIPTS[`pre${script}`];
  const command = SCRIPTS[script]?.replace('--import ./scripts/ready.mjs ', '');
  if (command === undefined) return [`no npm script is called ${script}: ${line}`];
  const parts = `${command}${args && ` ${args}`}`.split('&&').map((part) => part.trim());
  return [...(before ? [before] : []), ...parts].flatMap((part) =>
    /^npm (run|test)\b/.test(part) ? npmCommands(part) : [part],
  );
}

/** What a workflow's variables may hold. */
const SAMPLES = {
  IMAGE_TAG: 'v2',
  PRODUCER_DIGEST: `sha256:${'0'.repeat(64)}`,
  CONSUMER_DIGEST: `sha256:${'0'.repeat(64)}`,
  PRODUCER: 'v1',
  CONSUMER: 'v1',
  SERVICE: 'producer',
  STAGING_URL: 'http://127.0.0.1:1',
  TESTS: 'overlay',
  VERSION: '3.4',
  GITHUB_RUN_NUMBER: '1',
  PART: '1',
};

type Trial = {
  command: RegExp;
  /** Put after the workflow's own arguments. */
  and?: string;
  /** Values in place of the workflow's own, by option. */
  instead?: Record<string, string>;
  env?: Record<string, string>;
  status?: number[];
  says?: RegExp;
};
const NO_CLUSTER = { status: [1], says: /Unauthorized|logged in|kubectl/ };
/**
 * How each is tried: with the arguments of the workflow, where nothing can be reached that it could change (a cluster
 * that knows nobody, no container engine, no Prometheus), and with what else makes it short. Its own status and words
 * show that it has understood them.
 */
const TRIALS: Trial[] = [
  { command: /^(tsc|biome|knip|npm audit) /, and: '--help' },
  { command: /^knip$/, and: '--help' },
  { command: /^node scripts\/((prepare|ready)\.mjs|generate-docs\.ts --check|check-(docs|layers)\.ts)$/ },
  // With nothing but Node on the path, so that nothing is built.
  {
    command: /^node scripts\/run-tool\.ts /,
    env: { PATH: 'nothing but node' },
    status: [1],
    says: /cannot run, missing on the path/,
  },
  {
    command: /^node test\/run\.ts /,
    and: '--coverage.enabled=false --passWithNoTests --testNamePattern=no-such-test no/such/file',
    says: /^0 passed, 0 failed, \d+ skipped$/m,
  },
  { command: /^node test\/faults\/campaign\.ts/, instead: { trials: '0' }, says: /^0 passed, 0 failed/m },
  {
    command: /^node test\/faults\/mutations\.ts/,
    and: '--help',
    says: /^usage: npm run test:faults:mutations/m,
  },
  { command: /^node bench\/main\.ts/, and: '--quick http', status: [0, 1], says: /orders\/s/ },
  { command: /^node scripts\/check-images\.ts/, status: [1], says: /with Docker, and none answers/ },
  {
    command: /^node scripts\/watch-release\.ts/,
    instead: { minutes: '0' },
    and: '--every=0.01',
    status: [1],
    says: /Prometheus does not answer/,
  },
  { command: /^scripts\/(deploy|rollback)\.sh /, and: '--dry-run', ...NO_CLUSTER },
  { command: /^scripts\/verify-deployment\.sh /, ...NO_CLUSTER },
  { command: /^\.ci\/infra-diff /, env: { INFRA_ACCOUNT: '' }, says: /the infrastructure is not compared/ },
  {
    command: /^\.ci\/tell-deployed /,
    env: { AWS_ENDPOINT_URL: 'http://127.0.0.1:1', AWS_REGION: 'ap-northeast-2', AWS_MAX_ATTEMPTS: '1' },
    says: /^::warning::the event that v2 is deployed to \w+ was not sent$/m,
  },
  { command: /^\.ci\/roll-back /, env: { ROLL_BACK_PAUSES: '0' }, ...NO_CLUSTER },
  {
    command: /^scripts\/performance-test\.sh --namespace=/,
    env: { AWS_ENDPOINT_URL: 'https://127.0.0.1:1' },
    status: [1],
    says: /ECONNREFUSED|kubectl/,
  },
  {
    command: /^scripts\/performance-test\.sh /,
    instead: { messages: '20', concurrent: '2' },
    status: [0, 1],
    says: /20 accepted of 20/,
  },
  { command: /^scripts\/compose-smoke\.sh /, status: [1], says: /^FAIL images are built/m },
];

const commands = [...new Set(steps.flatMap(({ run }) => commandsOf(run ?? '')))];

it('the workflows name scripts', () => {
  expect(commands).toEqual(
    expect.arrayContaining([
      'knip',
      'node test/faults/campaign.ts --trials=50 --jobs=2 --seed="$GITHUB_RUN_NUMBER"',
      'scripts/deploy.sh production --image-tag="$IMAGE_TAG" --producer-digest="$PRODUCER_DIGEST" --consumer-digest="$CONSUMER_DIGEST"',
      '.ci/roll-back production "$IMAGE_TAG" "$PRODUCER" "$CONSUMER"',
    ]),
  );
});

/** Two that are made the same by what is put after them are one. */
const tried = new Map(
  commands.map((command) => {
    const trial = TRIALS.find((trial) => trial.command.test(command));
    const own = Object.entries(trial?.instead ?? {}).reduce(
      (line, [option, value]) => line.replace(new RegExp(`--${option}=\\S+`), `--${option}=${value}`),
      command,
    );
    const line = trial?.and ? `${own} ${trial.and}` : own;
    return [[...new Set(line.split(' '))].toSorted().join(' '), { command, trial, line }] as const;
  }),
);

describe('what a workflow runs', () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'workflows-'));
  const nobody = http.createServer((_, response) => {
    response.writeHead(401, { 'content-type': 'application/json' });
    response.end('{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Unauthorized","code":401}');
  });
  const nothingReached: NodeJS.ProcessEnv = {};

  beforeAll(async () => {
    await new Promise<void>((resolve) => nobody.listen(0, '127.0.0.1', resolve));
    symlinkSync(process.execPath, path.join(folder, 'node'));
    const server = `http://127.0.0.1:${(nobody.address() as AddressInfo).port}`;
    const kubeconfig = {
      'current-context': 'nobody',
      clusters: [{ name: 'nobody', cluster: { server } }],
      users: [{ name: 'nobody', user: { token: 'nobody' } }],
      contexts: [{ name: 'nobody', context: { cluster: 'nobody', user: 'nobody' } }],
    };
    writeFileSync(path.join(folder, 'kubeconfig'), JSON.stringify(kubeconfig));
    const { TEST_AWS, REQUIRE_CONTAINERS, REQUIRE_CLUSTER, ALERT_WEBHOOK_URL, ...own } = process.env;
    Object.assign(nothingReached, own, SAMPLES, {
      PATH: `${path.join(ROOT, 'node_modules/.bin')}:${own['PATH']}`,
      KUBECONFIG: path.join(folder, 'kubeconfig'),
      DOCKER_HOST: `unix://${folder}/no-engine`,
      PROMETHEUS_URL: 'http://127.0.0.1:1',
      AWS_ACCESS_KEY_ID: 'nobody',
      AWS_SECRET_ACCESS_KEY: 'nobody',
    });
  });
  afterAll(() => {
    nobody.close();
    rmSync(folder, { recursive: true });
  });

  it.concurrent.each([...tried.values()])('$line', { timeout: 90_000 }, async ({ command, trial, line }) => {
    const [program = ''] = command.split(' ');
    if (program.includes('/')) accessSync(path.join(ROOT, program), constants.X_OK);
    if (!trial) throw new Error('say in TRIALS how it can be tried without doing anything');
    const env = { ...nothingReached, ...trial.env, ...(trial.env?.['PATH'] ? { PATH: folder } : {}) };
    const { status, output } = await new Promise<{ status: unknown; output: string }>((resolve) => {
      exec(
        line,
        { cwd: ROOT, env, timeout: 80_000, maxBuffer: 64 * 1024 * 1024 },
        (error, stdout, stderr) => {
          resolve({ status: error ? (error.code ?? error.signal) : 0, output: stdout + stderr });
        },
      );
    });
    expect(trial.status ?? [0], output).toContain(status);
    expect(output).toMatch(trial.says ?? /(?:)/);
    if (!trial.and?.includes('--help')) expect(output).not.toMatch(/\busage:|unknown option|unknown flag/i);
  });
});
