import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { SoakResult } from '../soak/soak.ts';
import { FIGURES, type Figure, MAX_GROWTH, MAX_MORE } from '../soak/verdict.ts';
import { FAULTS } from './faults.ts';
import { INVARIANTS, type ViolationCode } from './invariants.ts';
import { type RecordedMutation, type RecordedTrial, readLines } from './results.ts';

const REMARKS = path.join(import.meta.dirname, 'remarks.md');
const DEFECTS = path.join(import.meta.dirname, 'defects.md');
const ROOT = path.join(import.meta.dirname, '..', '..');

/** `docs/reliability.md`, from the results of all runs that were appended. */
export function renderReport(
  trials: readonly RecordedTrial[],
  mutations: readonly RecordedMutation[],
  soak?: SoakResult,
  { remarks = '', defects = '' } = {},
): string {
  const sum = (of: (trial: RecordedTrial) => number) => trials.reduce((total, trial) => total + of(trial), 0);
  const broken = (code: ViolationCode) =>
    sum(({ violations }) => violations.filter((violation) => violation.code === code).length);
  const failed = trials.filter(({ violations }) => violations.length > 0);
  const measured = trials.filter(({ peakBytes }) => peakBytes !== undefined);
  const latest = [...new Map(mutations.map((mutation) => [mutation.name, mutation])).values()];
  const dates = trials.map(({ at }) => at.slice(0, 10)).sort();
  return `# Reliability

<!-- Written by test/faults/report.ts from test/faults/*.ndjson. Do not edit: run it again. -->

## What is promised

An order that was answered with 202 is in the store exactly once, or in the dead-letter queue with its reason, whatever
dies in between. An outage of SQS or of the database puts nothing into the dead-letter queue. How that is done:
[architecture](architecture.md#promises).

## How it is tested

\`npm run test:faults\` is a campaign of trials. Each starts both services as processes, before an SQS (the embedded
emulator, or another with \`--backend\`) that sits behind a proxy which injects faults, and on a store of its own; sends
a few hundred orders (real purchases, some of them twice, some that contradict each other or themselves, some that the
database refuses for ever or until they have failed once, in one of four ways) and messages that nobody can read; does one
to three things from the table below at random moments; ends them, waits until all is settled, stops the services under
load, and then looks at the table, the queues, the archives, the answers, the acceptance journal, the logs, the processes
and their memory from outside. The proxy keeps account of what each consumer has in work, and of what may explain a second
copy in the dead-letter queue. What is drawn comes from a seed, and is the same on every machine; what a machine has no means for is left out. Times are scaled
to a visibility time of 5 s.

\`\`\`sh
npm run test:faults -- --trials=50 --seed=1
npm run test:faults -- --seed=1 --trial=17       # that one again, on the same code
npm run test:faults -- --trials=50 --seed=2 --jobs=2 --report=test/faults/results.ndjson
npm run test:faults -- --trials=20 --seed=3 --backend=localstack
npm run test:faults:report                       # writes this page anew
\`\`\`

## Figures

| | ${dates[0] ?? 'no run yet'}${dates.at(-1) === dates[0] ? '' : ` to ${dates.at(-1)}`} |
| --- | ---: |
| trials | ${trials.length} |
| of them with a broken promise | ${failed.length} |
| orders sent | ${sum(({ orders }) => orders)} |
| orders accepted (202) | ${sum(({ accepted }) => accepted)} |
| orders not confirmed (5xx, 429 or no answer) | ${sum(({ unknown }) => unknown)} |
| rows found in the stores | ${sum(({ stored }) => stored)} |
| messages found in the dead-letter queues | ${sum(({ deadLettered }) => deadLettered)} |
| failures of orders that the database refused, counted | ${sum(({ failures = 0 }) => failures)} |
| accepted and lost | ${broken('LOST')} |
| stored twice | ${broken('STORED_TWICE')} |
| wrongly dead-lettered | ${broken('WRONGLY_DEAD_LETTERED')} |
| altered | ${broken('ALTERED')} |
| answered with 202 without a line in the acceptance journal, in ${trials.filter(({ unjournaled }) => unjournaled !== undefined).length} trials that looked for it | ${broken('NOT_JOURNALED')} |
| the same, but counted and logged by the producer itself | ${sum(({ unjournaled = 0 }) => unjournaled)} |
| copies in the dead-letter queue beyond what mishaps explain, in ${measured.length} trials that looked for them | ${broken('DEAD_LETTERED_TWICE')} |
| most memory of a process at its peak, in the same | ${Math.round(Math.max(0, ...measured.map(({ peakBytes = 0 }) => peakBytes)) / 1e6)} MB |
| most messages that a consumer had in work at once, in the same | ${Math.max(0, ...measured.map(({ inWork = 0 }) => inWork))} |

Each trial goes on sending while and after the consumers are stopped, to see them drain: those orders are accepted and
found in the queue, not in a store.

Counted from the end of the last fault of a trial:

| | median | 95 % | longest |
| --- | ---: | ---: | ---: |
| both services ready | ${quantiles(trials.map(({ recoveryMs }) => recoveryMs)).join(' | ')} |
| queue empty, nothing in work | ${quantiles(trials.map(({ settledMs }) => settledMs)).join(' | ')} |
| for comparison: a whole trial, start to verdict | ${quantiles(trials.map(({ durationMs }) => durationMs)).join(' | ')} |

Seeds: ${seeds(trials)}. ${chosen(trials)}

Results are only ever appended: a trial that failed stays in the file and on this page, whatever a later run of it says.
${remarks ? `Before that was the rule, some were replaced:\n\n${remarks}` : ''}
| SQS | trials | with a broken promise | orders accepted | settled, median |
| --- | ---: | ---: | ---: | ---: |
${[...Map.groupBy(trials, ({ backend = 'embedded' }) => backend)].map(backendLine).join('\n')}

A \`+\` after the commit: with changes that were not committed. The code of earlier trials was not recorded.

| code | trials | with a broken promise | orders accepted |
| --- | ---: | ---: | ---: |
${[...Map.groupBy(trials, ({ commit }) => commit ?? 'not recorded')].map(codeLine).join('\n')}

## Faults

A trial counts for a fault when the fault was seen to strike: requests that the proxy disturbed, processes that a signal
reached, a state of the store or the clock that came about. Earlier trials did not record that.

| fault | trials that it struck | struck nothing | not recorded | with a broken promise |
| --- | ---: | ---: | ---: | ---: |
${FAULTS.map(({ name }) => faultLine(name, trials)).join('\n')}

${skippedLine(trials)}

## Promises, and whether breaking them is noticed

Each check must be seen to fail: \`npm run test:faults:mutations\` breaks the code on purpose, one way at a time, in a
copy of the tree, and has the campaign find it.

| check | what it holds the services to |
| --- | --- |
${Object.entries(INVARIANTS)
  .map(([code, promise]) => `| \`${code}\` | ${promise} |`)
  .join('\n')}

| mutation | caught by | fault | seed/trial |
| --- | --- | --- | --- |
${latest.map(mutationLine).join('\n')}
${defects ? `\n## Defects\n\n${defects}` : ''}${soak ? renderSoak(soak) : ''}${failed.length === 0 ? '' : `\n## Broken promises\n\n${failed.map(failedLine).join('\n')}\n`}`;
}

function backendLine([backend, trials]: [string, readonly RecordedTrial[]]): string {
  const [median] = quantiles(trials.map(({ settledMs }) => settledMs));
  return `${codeLine([backend, trials])} ${median} |`;
}

function codeLine([code, trials]: [string, readonly RecordedTrial[]]): string {
  const broken = trials.filter(({ violations }) => violations.length > 0).length;
  const accepted = trials.reduce((sum, trial) => sum + trial.accepted, 0);
  return `| ${code} | ${trials.length} | ${broken} | ${accepted} |`;
}

function renderSoak({
  at,
  minutes,
  topRate,
  rate,
  reachedRate,
  windows,
  reconcile,
  problems,
}: SoakResult): string {
  const lines = (['producer', 'consumer'] as const).flatMap((service) =>
    FIGURES.map((figure) => {
      const { before, last } = windows[service][figure];
      const values = [shown(figure, before), shown(figure, last), growth(figure, before, last)];
      return `| ${service} | ${FIGURE_NAME[figure]} | ${values.join(' | ')} |`;
    }),
  );
  const third = `${Math.round((minutes / 3) * 10) / 10} minutes`;
  return `
## Soak

\`npm run test:soak -- --minutes=${minutes}\`, ${at.slice(0, 10)}: both services as processes on the embedded emulator and database, ${minutes}
minutes at ${reachedRate} orders a second (aimed at ${rate}${topRate ? `, half of the ${topRate} that a probe of 20 s reached` : ''}).
The first third is for warming up. Of the samples of the second and the last third, taken every few seconds, the table has the
median for memory, and for handles and open files the lowest decile, without those of the load itself: a leak raises it as
well, and what comes and goes does not. Resident memory fails the soak when it grew by more than ${MAX_GROWTH * 100} %; handles and
open files when they grew by more than ${MAX_MORE} and by more than ${MAX_GROWTH * 100} %. The heap in use is a part of the resident memory:
shown, not judged.

| service | | ${third} before | last ${third} | growth |
| --- | --- | ---: | ---: | ---: |
${lines.join('\n')}

Of ${reconcile.accepted} accepted orders, all looked for at the end, ${reconcile.stored} are stored, ${reconcile.deadLettered} dead-lettered, ${reconcile.missing} lost and ${reconcile.storedTwice} stored
twice. ${problems.length === 0 ? 'Nothing grew beyond these limits, nothing was refused.' : `**Problems**: ${problems.join('; ')}.`}
`;
}

const FIGURE_NAME: Record<Figure, string> = {
  residentBytes: 'resident memory',
  heapUsedBytes: 'heap in use',
  handles: 'handles',
  openFiles: 'open files',
};

function shown(figure: Figure, value: number): string {
  return figure.endsWith('Bytes') ? `${(value / 1e6).toFixed(1)} MB` : String(value);
}

/** A share of memory; of what there are few of, how many more. */
function growth(figure: Figure, before: number, last: number): string {
  const more = last - before;
  if (figure.endsWith('Bytes')) return `${((more / before) * 100).toFixed(1)} %`;
  return more > 0 ? `+${more}` : String(more);
}

function faultLine(name: string, trials: readonly RecordedTrial[]): string {
  const all = trials.filter(({ faults }) => faults.includes(name));
  const broken = all.filter(({ violations }) => violations.length > 0).length;
  const counts = all.map(({ struck }) => struck?.[name]);
  const struck = counts.filter((count) => count !== undefined && count > 0).length;
  const missed = counts.filter((count) => count === 0).length;
  return `| ${name} | ${struck} | ${missed} | ${all.length - struck - missed} | ${broken} |`;
}

function skippedLine(trials: readonly RecordedTrial[]): string {
  const skipped = new Map<string, number>();
  for (const name of trials.flatMap((trial) => trial.skipped))
    skipped.set(name, (skipped.get(name) ?? 0) + 1);
  if (skipped.size === 0) return 'No fault was left out for want of means.';
  const names = [...skipped].map(([name, count]) => `${name} (in ${count} trials)`);
  return `Left out, for want of means on the machine: ${names.join(', ')}.`;
}

function mutationLine({ name, caughtBy, expected, fault, seed, trial, trials }: RecordedMutation): string {
  const codes = caughtBy.map((code) => `\`${code}\``).join(', ');
  if (caughtBy.length === 0)
    return `| ${name} | **not caught** in ${trials} trials (expected \`${expected}\`) | ${fault} | |`;
  const unexpected = caughtBy.includes(expected) ? '' : `, **not by \`${expected}\`**, which was to catch it`;
  return `| ${name} | ${codes}${unexpected} | ${fault} | ${seed}/${trial} |`;
}

function failedLine({ seed, trial, faults, backend = 'embedded', violations }: RecordedTrial): string {
  const codes = [...new Set(violations.map(({ code }) => code))].join(', ');
  return `- ${seed}/${trial}, ${backend}, ${faults.join(', ')}: ${codes}`;
}

function seeds(trials: readonly RecordedTrial[]): string {
  const bySeed = [...Map.groupBy(trials, ({ seed }) => seed)].sort(([a], [b]) => a - b);
  return bySeed.map(([seed, all]) => `${seed} (${all.length} trials)`).join(', ') || 'none';
}

function chosen(trials: readonly RecordedTrial[]): string {
  const settings = trials.flatMap((trial) =>
    Object.entries(trial.settings ?? {}).map((pair) => pair.join('=')),
  );
  const counts = [...Map.groupBy(settings, (setting) => setting)].sort();
  if (counts.length === 0) return '';
  return `Services ran with ${counts.map(([setting, all]) => `\`${setting}\` in ${all.length} trials`).join(', ')}.`;
}

/** Median, 95 %, longest. */
function quantiles(values: readonly number[]): string[] {
  const sorted = [...values].sort((a, b) => a - b);
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
  const seconds = (ms: number | undefined) => (ms === undefined ? '' : `${(ms / 1_000).toFixed(1)} s`);
  return [at(0.5), at(0.95), sorted.at(-1)].map(seconds);
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      results: { type: 'string', default: path.join(import.meta.dirname, 'results.ndjson') },
      mutations: { type: 'string', default: path.join(import.meta.dirname, 'mutations.ndjson') },
      soak: { type: 'string', default: path.join(import.meta.dirname, 'soak.json') },
      out: { type: 'string', default: path.join(ROOT, 'docs', 'reliability.md') },
    },
  });
  const soak = existsSync(values.soak) ? JSON.parse(readFileSync(values.soak, 'utf8')) : undefined;
  const report = renderReport(readLines(values.results), readLines(values.mutations), soak, {
    remarks: readFileSync(REMARKS, 'utf8'),
    defects: readFileSync(DEFECTS, 'utf8'),
  });
  writeFileSync(values.out, report);
  console.log(`written: ${path.relative(process.cwd(), values.out)}`);
}
