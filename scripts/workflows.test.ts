import { exec } from 'node:child_process';
import { accessSync, constants, globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';

type Step = { uses?: string; run?: string };
type Job = {
  uses?: string;
  steps?: Step[];
  'timeout-minutes'?: number;
  permissions?: Record<string, string>;
};
type Workflow = { permissions?: object; jobs: Record<string, Job> };

const ROOT = path.join(import.meta.dirname, '..');
const SCRIPTS: Record<string, string> = JSON.parse(
  readFileSync(path.join(ROOT, 'package.json'), 'utf8'),
).scripts;
const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8');
const workflows = globSync('.github/workflows/*.yml', { cwd: ROOT });
const actions = globSync('.github/actions/*/action.yml', { cwd: ROOT });
const jobs = workflows.flatMap((file) =>
  Object.entries((parse(read(file)) as Workflow).jobs).map(([name, job]) => ({ file, name, job })),
);
const steps: Step[] = [
  ...jobs.flatMap(({ job }) => job.steps ?? []),
  ...actions.flatMap((file): Step[] => parse(read(file)).runs.steps),
];

describe.each([...workflows, ...actions])('%s', (file) => {
  it('pins what it uses of others by digest, and says which version that is', () => {
    for (const [line, used = ''] of read(file).matchAll(/^.*\buses: (\S+).*$/gm)) {
      if (!used.startsWith('./')) expect(line).toMatch(/@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    }
  });
});

describe.each(workflows)('%s', (file) => {
  it('grants nothing but to single jobs', () => {
    expect((parse(read(file)) as Workflow).permissions).toEqual({});
  });
});

it.each(jobs)('job $name of $file has a limit of time and its own permissions, no write-all', ({ job }) => {
  if (!job.uses) expect(job['timeout-minutes']).toBeTypeOf('number');
  expect(typeof (job.permissions ?? {})).toBe('object');
  const writes = Object.entries(job.permissions ?? {}).filter(([, access]) => access === 'write');
  expect(['id-token', 'security-events']).toEqual(expect.arrayContaining(writes.map(([name]) => name)));
});

/** The commands that a text of shell names, as far as they are this repository's. `npm run` is what its script says. */
function commandsOf(shell: string): string[] {
  const npm = [...shell.matchAll(/\bnpm (?:run|test)\b((?: --[\w-]+)*)(?: ([\w:-]+))?/g)].flatMap((match) => {
    const [text, flags = '', named = ''] = match;
    const script = text.startsWith('npm test') ? 'test' : named;
    if (flags.includes('--if-present') && !(script in SCRIPTS)) return [];
    return [`pre${script}`, script].flatMap((name, index) => {
      const command = SCRIPTS[name];
      if (command !== undefined) return command.split('&&').flatMap((part) => ownOrExpanded(part.trim()));
      return index === 0 ? [] : [`no npm script is called ${script}`];
    });
  });
  const files = [...shell.matchAll(/(?<![\w/.])(?:\.\/)?((?:scripts|\.ci)\/[\w./-]+)/g)].map(
    ([, file = '']) => file,
  );
  return [...npm, ...files];
}

function ownOrExpanded(command: string): string[] {
  const expanded = /^npm (run|test)\b/.test(command) ? commandsOf(command) : [];
  return expanded.length > 0 ? expanded : [command];
}

const commands = [...new Set(steps.flatMap(({ run }) => commandsOf(run ?? '')))];

it('the workflows name scripts', () => {
  expect(commands).toEqual(
    expect.arrayContaining([
      'knip',
      'node test/faults/campaign.ts',
      'scripts/deploy.sh',
      'scripts/rollback.sh',
    ]),
  );
});

// With --help each shows that it is there and starts: what is ours then prints how it is used, and does nothing.
it.concurrent.each(commands)('%s, which a workflow runs, starts', { timeout: 60_000 }, async (command) => {
  const [program = ''] = command.split(' ');
  if (program.includes('/')) accessSync(path.join(ROOT, program), constants.X_OK);
  const env = { ...process.env, PATH: `${path.join(ROOT, 'node_modules/.bin')}:${process.env['PATH']}` };
  const { status, output } = await new Promise<{ status: unknown; output: string }>((resolve) => {
    exec(`${command} --help`, { cwd: ROOT, env, timeout: 50_000 }, (error, stdout, stderr) => {
      resolve({ status: error ? (error.code ?? error.signal) : 0, output: stdout + stderr });
    });
  });
  if (status !== 0) expect(output).toMatch(/usage:|Unknown option '--help'/i);
});
