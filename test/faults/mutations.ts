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
import { parseArgs } from 'node:util';
import { MUTATIONS, type Mutation } from './mutants.ts';
import { type RecordedMutation, type RecordedTrial, readLines } from './results.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');
const LEFT_OUT = new Set(['node_modules', '.git', '.data', 'coverage']);
const WORKSPACES = ['shared', 'producer', 'consumer'];

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
    const options = [
      `--seed=${seed}`,
      `--trials=${trials}`,
      `--only=${fault}`,
      '--bail',
      `--report=${results}`,
    ];
    spawnSync(process.execPath, [path.join(copy, 'test', 'faults', 'campaign.ts'), ...options], {
      stdio: ['ignore', 'inherit', 'inherit'],
    });
    const done = readLines<RecordedTrial>(results);
    const caught = done.find(({ violations }) => violations.length > 0);
    const caughtBy = [...new Set(caught?.violations.map(({ code }) => code))];
    const at = new Date().toISOString();
    return { at, name, expected, caughtBy, trials: done.length, seed, trial: caught?.trial, fault };
  } finally {
    rmSync(copy, { recursive: true });
  }
}

const { values } = parseArgs({
  options: {
    seed: { type: 'string', default: '1' },
    trials: { type: 'string', default: '8' },
    only: { type: 'string' },
    report: { type: 'string' },
  },
});
const chosen = MUTATIONS.filter(({ name }) => values.only === undefined || name === values.only);
let missed = 0;
for (const mutation of chosen) {
  console.log(`--- ${mutation.name}`);
  const result = tryMutation(mutation, Number(values.seed), Number(values.trials));
  if (!result.caughtBy.includes(mutation.expected)) missed++;
  if (values.report) appendFileSync(values.report, `${JSON.stringify(result)}\n`);
  const by = result.caughtBy.join(', ') || 'NOTHING';
  console.log(`--- ${mutation.name}: caught by ${by}, expected ${mutation.expected}`);
}
console.log(`${chosen.length - missed} passed, ${missed} failed, 0 skipped`);
process.exitCode = missed === 0 ? 0 : 1;
