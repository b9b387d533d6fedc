import { z } from 'zod';
import { defineCommand, flag, runCommand, type ValuesOf, wholeNumber } from '../scripts/command.ts';
import { judge } from './bars.ts';
import { writeReport } from './report.ts';
import { keep, load, machine, type Results } from './results.ts';
import { contextOf, type Suite } from './suite.ts';
import { auth } from './suites/auth.ts';
import { consume } from './suites/consume.ts';
import { e2e } from './suites/e2e.ts';
import { growth } from './suites/growth.ts';
import { http } from './suites/http.ts';
import { memory } from './suites/memory.ts';
import { publish } from './suites/publish.ts';
import { steps } from './suites/steps.ts';
import { store } from './suites/store.ts';
import { barsTable, contestTable } from './tables.ts';

const BY_DEFAULT: Record<string, Suite> = { consume, publish, http, store, e2e, memory };
const SUITES: Record<string, Suite> = { ...BY_DEFAULT, auth, steps, growth };

export const command = defineCommand({
  name: 'npm run bench --',
  forContributors: true,
  summary:
    'Runs benchmarks. Each contestant runs in its own process; the contestants take turns over several rounds, and medians count.',
  positionals: {
    suites: {
      schema: z.array(z.enum(Object.keys(SUITES))),
      description:
        'consume publish http store e2e memory, all of them by default (20 minutes); auth (4 minutes), steps (6 minutes) and growth (up to 2 hours) only if named, or with --quick',
    },
  },
  options: {
    quick: flag(
      'one short round of every suite (3 minutes): only checks that everything runs, and that requests per 1,000 orders meet their bars',
    ),
    rounds: { takes: 'N', description: 'number of rounds', schema: wholeNumber(1, 100).optional() },
    report: flag('keeps the results and writes docs/performance.md with its plots'),
  },
  changes:
    '--report writes to bench/results and docs. With BENCH_DATABASE_URL, store deletes all orders of that database, whose name must contain bench; without it, it starts a PostgreSQL of its own where binaries of one are installed.',
  exitStatuses: {
    0: 'everything ran',
    1: 'something failed, or takes too many requests; never because it is slow',
  },
});

if (import.meta.main) {
  await runCommand(command, main);
  // What a failure left running ends with this process.
  process.exit();
}

async function main({ suites, quick, report, rounds }: ValuesOf<typeof command>): Promise<number> {
  const names = suites.length > 0 ? suites : Object.keys(quick ? SUITES : BY_DEFAULT);
  const results: Results = [];
  for (const name of names) {
    const before = load();
    const context = contextOf(quick, (line) => console.error(line), rounds);
    const contests = await (SUITES[name] as Suite).run(context);
    const result = {
      suite: name,
      at: new Date().toISOString(),
      machine: machine(),
      load: { before, after: load() },
      contests,
    };
    results.push(result);
    for (const contest of contests) console.log(`\n## ${contest.title}\n\n${contestTable(contest)}`);
    if (report) keep(name, result);
  }
  const judged = judge(results);
  if (judged.length > 0) console.log(`\n## Bars\n\n${barsTable(judged)}`);
  if (report) writeReport();
  const dear = judged.filter((bar) => bar.costsTooManyRequests);
  for (const { what, target } of dear) console.error(`FAILED ${what}: must be ${target}`);
  return dear.length > 0 ? 1 : 0;
}
