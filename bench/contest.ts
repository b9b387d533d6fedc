import { setTimeout as sleep } from 'node:timers/promises';
import type { Sample } from './probe.ts';
import type { MeasuredProcess } from './process.ts';

/** What a run is measured by. A contestant has those that make sense for it. */
export const MEASURES = {
  perSecond: 'orders/s',
  cpuPer10000: 'CPU-s per 10,000',
  requestsPer1000: 'requests per 1,000',
  billedPer1000: 'billed per 1,000',
  peakMegabytes: 'peak RSS MB',
  p50Ms: 'p50 ms',
  p99Ms: 'p99 ms',
  answerP50Ms: 'p50 ms to the answer',
  answerP99Ms: 'p99 ms to the answer',
} as const;
export type Measure = keyof typeof MEASURES;
export type Figures = Partial<Record<Measure, number>>;

export type Contestant = {
  name: string;
  /** How it is set up: its best sensible settings, for the table. */
  settings: string;
  /** One run, in a process of its own. */
  run: (pace: Pace) => Promise<Figures>;
};

export type Contest = {
  title: string;
  /** Against whom the others are compared: the name of a contestant. */
  reference: string;
  contestants: Contestant[];
};

/** The runs of one contestant, in the order of the rounds. */
export type Row = { name: string; settings: string; runs: Figures[] };
export type ContestResult = { title: string; reference: string; rows: Row[] };

/** How long a contestant runs before it is measured, how long it is measured, and how often. */
export type Pace = {
  warmMs: number;
  /** At most: so many orders are enough. */
  measureMs: number;
  orders?: number;
  rounds: number;
};

/**
 * Lets all run in turn, round after round, each round begun by another one: what else the machine does meanwhile meets
 * all of them, and ratios are taken within a round.
 */
export async function compete(
  contest: Contest,
  pace: Pace,
  note: (line: string) => void,
): Promise<ContestResult> {
  const { title, reference, contestants } = contest;
  const rows = contestants.map(({ name, settings }): Row => ({ name, settings, runs: [] }));
  for (let round = 0; round < pace.rounds; round++) {
    for (let turn = 0; turn < contestants.length; turn++) {
      const index = (turn + round) % contestants.length;
      const { name, run } = contestants[index] as Contestant;
      const figures = await run(pace);
      rows[index]?.runs.push(figures);
      note(`${title}, round ${round + 1} of ${pace.rounds}: ${name} ${line(figures)}`);
    }
  }
  return { title, reference, rows };
}

const line = (figures: Figures) =>
  Object.entries(figures)
    .map(([measure, value]) => `${round(value)} ${MEASURES[measure as Measure]}`)
    .join(', ');

export type Window = {
  /** Whose orders are counted, and who is told what they cost. The same process, for one that counts its own. */
  counter: MeasuredProcess;
  worker: MeasuredProcess;
  sink?: MeasuredProcess;
  /** There are no more: the window ends before they do. */
  available?: number;
};

/** Measures a contestant that runs already, after its time to get warm. */
export async function measure(
  { counter, worker, sink, available = Number.POSITIVE_INFINITY }: Window,
  { warmMs, measureMs, orders: enough = Number.POSITIVE_INFINITY }: Pace,
): Promise<Figures> {
  const look = async () => ({
    count: await counter.sample(),
    work: await worker.sample(),
    sink: await sink?.sample(),
  });
  await until(counter, warmMs, available * 0.3);
  const before = await look();
  await until(counter, measureMs, Math.min(available * 0.95, handled(before.count) + enough));
  const after = await look();
  const orders = handled(after.count) - handled(before.count);
  if (orders === 0) throw new Error('nothing was done in the time of measuring');
  if (after.count.counts['refused']) throw new Error(`${after.count.counts['refused']} orders were refused`);
  const sunk = (what: string) => (after.sink?.counts[what] ?? 0) - (before.sink?.counts[what] ?? 0);
  // What arrived and what was asked are counted at one moment, by one process.
  const arrived = sunk('deleted') + sunk('sent');
  if (sink) checkAgainstSink(orders, arrived);
  return {
    perSecond: (orders / (after.count.atMs - before.count.atMs)) * 1_000,
    cpuPer10000: ((after.work.cpuSeconds - before.work.cpuSeconds) / orders) * 10_000,
    ...(arrived > 0
      ? {
          requestsPer1000: (sunk('requests') / arrived) * 1_000,
          billedPer1000: (sunk('billed') / arrived) * 1_000,
        }
      : {}),
    peakMegabytes: after.work.peakBytes / 1e6,
  };
}

const POLL_MS = 20;
/** A sink has done what was deleted from it. */
const handled = ({ counts }: Sample) => counts['handled'] ?? counts['deleted'] ?? 0;

async function until(counter: MeasuredProcess, ms: number, enough: number): Promise<void> {
  const end = performance.now() + ms;
  while (performance.now() < end) {
    await sleep(Math.max(0, Math.min(POLL_MS, end - performance.now())));
    if (Number.isFinite(enough) && handled(await counter.sample()) >= enough) return;
  }
}

/** What a contestant says it has done must have arrived: but for what is under way. */
function checkAgainstSink(orders: number, arrived: number): void {
  if (arrived > 0 && Math.abs(arrived - orders) > 12_000 + orders * 0.05) {
    throw new Error(`the contestant counted ${orders} orders, the sink ${arrived}`);
  }
}

export type Spread = { median: number; min: number; max: number };

export function spreadOf(values: number[]): Spread | undefined {
  if (values.length === 0) return undefined;
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = ((sorted[Math.ceil(middle) - 1] ?? 0) + (sorted[Math.floor(middle)] ?? 0)) / 2;
  return { median, min: sorted[0] ?? 0, max: sorted.at(-1) ?? 0 };
}

export const spread = (row: Row | undefined, measure: Measure) =>
  spreadOf(row?.runs.flatMap((figures) => figures[measure] ?? []) ?? []);

/** How many times as much the first has, round by round. */
export function ratio(row: Row | undefined, other: Row | undefined, measure: Measure): Spread | undefined {
  return spreadOf(
    row?.runs.flatMap((figures, round) => {
      const [mine, theirs] = [figures[measure], other?.runs[round]?.[measure]];
      return mine !== undefined && theirs ? mine / theirs : [];
    }) ?? [],
  );
}

/** Three significant digits, thousands whole. */
export function round(value: number): string {
  if (value >= 100) return Math.round(value).toLocaleString('en-US');
  return String(Number(value.toPrecision(value < 1 ? 2 : 3)));
}
