import { parseArgs } from 'node:util';
import { runTool, UsageError } from '../scripts/sqs-tool.ts';
import { judge } from './bars.ts';
import { writeReport } from './report.ts';
import { keep, load, machine, type Results } from './results.ts';
import { contextOf, type Suite } from './suite.ts';
import { consume } from './suites/consume.ts';
import { e2e } from './suites/e2e.ts';
import { growth } from './suites/growth.ts';
import { http } from './suites/http.ts';
import { memory } from './suites/memory.ts';
import { publish } from './suites/publish.ts';
import { steps } from './suites/steps.ts';
import { store } from './suites/store.ts';
import { barsTable, contestTable } from './tables.ts';

const USAGE = `usage: npm run bench -- [SUITE...] [--quick] [--rounds=N] [--report]

  Suites: consume publish http store e2e memory, all of them by default (20 minutes); steps (6 minutes) and growth
  (up to 2 hours) only when they are named, or with --quick.
  Each contestant runs in a process of its own, in rounds that take turns; medians count.
  --quick   one short round of every suite (3 minutes): only finds out whether everything runs, and holds requests
            per 1,000 orders to their bars
  --report  keeps the results and writes docs/performance.md with its plots
  Exit status 1 when something does not run, or costs too many requests. Never for being slow.`;

const BY_DEFAULT: Record<string, Suite> = { consume, publish, http, store, e2e, memory };
const SUITES: Record<string, Suite> = { ...BY_DEFAULT, steps, growth };

await runTool(async () => {
  const { names, quick, report, rounds } = parse();
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
});
// What a failure left running ends with this process.
process.exit();

function parse() {
  try {
    const { values, positionals } = parseArgs({
      allowPositionals: true,
      options: {
        quick: { type: 'boolean', default: false },
        report: { type: 'boolean', default: false },
        rounds: { type: 'string' },
      },
    });
    const unknown = positionals.find((name) => !(name in SUITES));
    if (unknown) throw new Error(`no suite ${unknown}`);
    const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
    if (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0)) {
      throw new Error('--rounds must be a whole number above 0');
    }
    const all = Object.keys(values.quick ? SUITES : BY_DEFAULT);
    return { ...values, rounds, names: positionals.length > 0 ? positionals : all };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), USAGE);
  }
}
