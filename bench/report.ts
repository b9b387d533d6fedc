import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { judge } from './bars.ts';
import { capacitySection, keptCapacity } from './capacity.ts';
import type { ContestResult, Measure } from './contest.ts';
import { barPlot, linePlot } from './plot.ts';
import { kept, type SuiteResult } from './results.ts';
import { barsTable, contestTable } from './tables.ts';

const DOCS = path.join(import.meta.dirname, '..', 'docs');
/** Written by hand: what profiles say about the bars that are not met. */
const REMARKS = path.join(import.meta.dirname, 'remarks.md');

const ORDER = ['consume', 'store', 'publish', 'http', 'e2e', 'memory', 'steps', 'growth'];
/** What a suite's first contest is drawn by. */
const DRAWN: Record<string, Measure> = {
  consume: 'perSecond',
  store: 'perSecond',
  publish: 'perSecond',
  http: 'perSecond',
  memory: 'peakMegabytes',
  steps: 'perSecond',
};

const INTRODUCTION = `# Performance

Made by \`npm run bench -- --report\`, the growth curves by \`npm run bench -- growth --report\`, the capacity by
\`scripts/performance-test.sh --report\`; written by hand is only what is said of the bars that are not met.

Orders of 500 bytes. Each contestant runs in a process of its own with its best sensible settings, all of them without V8
flags (what the images' flags cost is under *memory*), in rounds that take turns on one machine; a figure is the median of
the rounds, in brackets the least and the most, and a ratio is taken within a round. The sink is an SQS in a process of
its own that never runs dry, keeps nothing and answers with right checksums: what is left is the cost of the client.
*orders/s* and times hold for one machine on one day, and more so when others work on it (the load average before each suite
says whether they did); ratios, CPU seconds and requests travel.

\`order-consumer\` and \`order-producer\` are this project's own code. Where nothing is done with the order, they still read
it, check it against the schema and compute its content hash, but for the contestant with a *no-op handler*, which does
what its rivals do: nothing, they do not even parse it. *Billed* are requests as AWS counts them, by 64 KiB. *CPU-s* are of
the contestant's process alone; *by CPU* is what two rates would be to each other if each contestant had a core to itself,
and so what holds where the machine was busy with others.
`;

/** Writes docs/performance.md and its plots from what was kept. */
export function writeReport(): void {
  mkdirSync(path.join(DOCS, 'img'), { recursive: true });
  const results = ORDER.flatMap((name) => kept<SuiteResult>(name) ?? []);
  const capacity = keptCapacity();
  const page = [
    INTRODUCTION,
    `## Bars\n\n${barsTable(judge(results))}\n`,
    readFileSync(REMARKS, 'utf8'),
    ...(capacity ? [capacitySection(capacity)] : []),
    ...results.map(suiteSection),
  ];
  writeFileSync(path.join(DOCS, 'performance.md'), page.join('\n'));
}

function suiteSection({ suite, at, machine, load, contests }: SuiteResult): string {
  const rounds = contests[0]?.rows[0]?.runs.length;
  const about = `${at.slice(0, 16).replace('T', ' ')} UTC, ${machine}, load average ${load.before} before and ${load.after} after, ${rounds} rounds.`;
  const parts = contests.map((contest, index) => {
    const plot = draw(suite, contest, index);
    return `### ${contest.title}\n\n${plot}${contestTable(contest)}\n`;
  });
  return `## ${suite}\n\n${about}\n\n${parts.join('\n')}`;
}

function draw(suite: string, contest: ContestResult, index: number): string {
  const name = `performance-${suite}${index === 0 ? '' : `-${index + 1}`}.svg`;
  const plot =
    suite === 'growth'
      ? linePlot(contest, 'perSecond')
      : index === 0 && DRAWN[suite] && barPlot(contest, DRAWN[suite]);
  if (!plot) return '';
  writeFileSync(path.join(DOCS, 'img', name), plot);
  return `![${contest.title}](img/${name})\n\n`;
}
