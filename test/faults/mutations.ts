import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import { defineCommand, runCommand, type ValuesOf, wholeNumber } from '../../scripts/command.ts';
import { MUTATIONS, type Mutation } from './mutants.ts';
import { type RecordedMutation, type RecordedTrial, readLines } from './results.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const LEFT_OUT = new Set(['node_modules', '.git', '.data', 'coverage']);
const WORKSPACES = ['shared', 'producer', 'consumer'];

export const command = defineCommand({
  name: 'npm run test:faults:mutations --',
  forContributors: true,
  summary:
    'Breaks a copy of the code on purpose, in one way at a time, and runs the fault campaign on it: each check must be seen to fail.',
  positionals: {},
  options: {
    only: {
      takes: 'NAME',
      description: 'only this mutation of test/faults/mutants.ts',
      schema: z.enum(MUTATIONS.map(({ name }) => name)).optional(),
    },
    seed: { takes: 'S', description: 'seed of the campaign', schema: wholeNumber(0).default(1) },
    trials: {
      takes: 'N',
      description: 'maximum number of trials per mutation',
      schema: wholeNumber(1).default(8),
    },
    report: {
      takes: 'FILE',
      description: 'appends the results, one JSON line per mutation, for test:faults:report',
      schema: z.string().optional(),
    },
  },
  changes: 'nothing; the copies are in the temporary folder while the campaign runs.',
  exitStatuses: { 0: 'every mutation was caught by its expected check', 1: 'one was not' },
});

/** The project in another folder, that shares what is installed but for the workspaces themselves. */
function copyTree(): string {
  const copy = mkdtempSync(path.join(tmpdir(), 'faults-mutant-'));
  cpSync(ROOT, copy, { recursive: true, filter: (file) => !LEFT_OUT.has(path.basename(file)) });
  const installed = path.join(ROOT, 'node_modules');
  mkdirSync(path.join(copy, 'node_modules', '@orders'), { recursive: true });
  for (const name of readdirSync(installed))
    if (name !== '@orders') symlinkSync(path.join(installed, name), path.join(copy, 'node_modules', name));
  for (const workspace of WORKSPACES) {
    symlinkSync(path.join(copy, workspace), path.join(copy, 'node_modules', '@orders', workspace));
    const own = path.join(ROOT, workspace, 'node_modules');
    if (existsSync(own)) symlinkSync(own, path.join(copy, workspace, 'node_modules'));
  }
  return copy;
}

function mutate(copy: string, { name, edits }: Mutation): void {
  for (const { file, find, replace } of edits) {
    const target = path.join(copy, file);
    const parts = readFileSync(target, 'utf8').split(find);
    if (parts.length !== 2) throw new Error(`${name}: ${file} has ${parts.length - 1} places like ${find}`);
    writeFileSync(target, parts.join(replace));
  }
}

function tryMutation(mutation: Mutation, seed: number, trials: number): RecordedMutation {
  const { name, expected, fault } = mutation;
  const copy = copyTree();
  try {
    mutate(copy, mutation);
    const results = path.join(copy, 'mutant.ndjson');
    const isCaught = ({ violations }: RecordedTrial) => violations.some(({ code }) => code === expected);
    // Other checks may catch it first; the one that was expected must be seen to fail, too.
    for (let trial = 0; trial < trials && !readLines<RecordedTrial>(results).some(isCaught); trial++)
      spawnSync(
        process.execPath,
        [
          path.join(copy, 'test', 'faults', 'campaign.ts'),
          ...[`--seed=${seed}`, `--trial=${trial}`, `--only=${fault}`, `--report=${results}`],
        ],
        { stdio: ['ignore', 'inherit', 'inherit'] },
      );
    const done = readLines<RecordedTrial>(results);
    const caught = done.find(isCaught) ?? done.find(({ violations }) => violations.length > 0);
    const caughtBy = [...new Set(caught?.violations.map(({ code }) => code))];
    const at = new Date().toISOString();
    return { at, name, expected, caughtBy, trials: done.length, seed, trial: caught?.trial, fault };
  } finally {
    rmSync(copy, { recursive: true });
  }
}

if (import.meta.main) await runCommand(command, main);

async function main({ seed, trials, only, report }: ValuesOf<typeof command>): Promise<number> {
  const chosen = MUTATIONS.filter(({ name }) => only === undefined || name === only);
  let missed = 0;
  for (const mutation of chosen) {
    console.log(`--- ${mutation.name}`);
    const result = tryMutation(mutation, seed, trials);
    if (!result.caughtBy.includes(mutation.expected)) missed++;
    if (report) appendFileSync(report, `${JSON.stringify(result)}\n`);
    const by = result.caughtBy.join(', ') || 'NOTHING';
    console.log(`--- ${mutation.name}: caught by ${by}, expected ${mutation.expected}`);
  }
  console.log(`${chosen.length - missed} passed, ${missed} failed, 0 skipped`);
  return missed === 0 ? 0 : 1;
}
