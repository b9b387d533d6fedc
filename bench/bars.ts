import { type Measure, type Row, ratio, round, type Spread, spread } from './contest.ts';
import type { Results } from './results.ts';

/** What is promised of the speed. */
type Bar = {
  what: string;
  /** Title of the contest, up to its first comma or whole. */
  contest: string;
  of: string;
  /** The figure is a ratio to this one's, or to that of the best whose name begins so. */
  against?: string | { best: string };
  measure: Measure;
  unit?: string;
} & ({ least: number } | { most: number });

/** A bar, and what was measured. */
export type JudgedBar = {
  what: string;
  target: string;
  measured: Spread;
  met: boolean;
  /** What the rates would be to each other if each had a core to itself: the inverse ratio of their CPU seconds. */
  byCpu: Spread | undefined;
  costsTooManyRequests: boolean;
};

const CONSUMER = 'order-consumer';
const NOOP_CONSUMER = 'order-consumer, no-op handler';
const PRODUCER = 'order-producer';
const BATCH_HANDLER = 'sqs-consumer, batch handler';
const NOOP = 'Consume, nothing done with the order';
const STORED = 'Consume into the embedded store';
const IN_POSTGRES = 'Consume into PostgreSQL';
const BY_WHO_ASKS = 'HTTP by who asks';
const FROM_SENDING = 'From sending to commit';
const ALL_THAT_SAVES = 'all that saves memory';

const rate = { measure: 'perSecond', unit: '×' } as const;
const cpu = { measure: 'cpuPer10000', unit: '×' } as const;
const requests = { measure: 'requestsPer1000' } as const;
const rss = { of: ALL_THAT_SAVES, measure: 'peakMegabytes', unit: ' MB' } as const;

const BARS: Bar[] = [
  {
    what: 'consume, no-op handler: orders/s against the batch handler',
    contest: NOOP,
    of: NOOP_CONSUMER,
    against: BATCH_HANDLER,
    ...rate,
    least: 2.5,
  },
  {
    what: 'consume, no-op handler: orders/s against the message handler',
    contest: NOOP,
    of: NOOP_CONSUMER,
    against: 'sqs-consumer, message handler',
    ...rate,
    least: 6,
  },
  {
    what: 'the same, but order-consumer reads and checks each order: against the batch handler',
    contest: NOOP,
    of: CONSUMER,
    against: BATCH_HANDLER,
    ...rate,
    least: 2.5,
  },
  {
    what: 'the same, but order-consumer reads and checks each order: against the message handler',
    contest: NOOP,
    of: CONSUMER,
    against: 'sqs-consumer, message handler',
    ...rate,
    least: 6,
  },
  {
    what: 'consume into the embedded store: orders/s against the batch handler',
    contest: STORED,
    of: CONSUMER,
    against: BATCH_HANDLER,
    ...rate,
    least: 1.6,
  },
  {
    what: 'consume into the embedded store: CPU of the batch handler',
    contest: STORED,
    of: CONSUMER,
    against: BATCH_HANDLER,
    ...cpu,
    most: 0.5,
  },
  {
    what: 'consume into PostgreSQL: orders/s against the batch handler',
    contest: IN_POSTGRES,
    of: CONSUMER,
    against: BATCH_HANDLER,
    ...rate,
    least: 2,
  },
  {
    what: 'consume into PostgreSQL: CPU of the batch handler',
    contest: IN_POSTGRES,
    of: CONSUMER,
    against: BATCH_HANDLER,
    ...cpu,
    most: 0.45,
  },
  {
    what: 'consume into PostgreSQL 2 ms away: orders/s against the batch handler',
    contest: `${IN_POSTGRES} 2 ms away`,
    of: CONSUMER,
    against: BATCH_HANDLER,
    ...rate,
    least: 2,
  },
  {
    what: 'one poller, 15 ms away: orders/s against the batch handler',
    contest: 'Consume, one poller',
    of: CONSUMER,
    against: BATCH_HANDLER,
    ...rate,
    least: 1.8,
  },
  {
    what: 'publish: orders/s against sqs-producer with arrays',
    contest: 'Publish',
    of: PRODUCER,
    against: 'sqs-producer, arrays',
    ...rate,
    least: 2.3,
  },
  {
    what: 'HTTP: orders/s of bare Fastify',
    contest: 'HTTP',
    of: PRODUCER,
    against: 'bare Fastify',
    ...rate,
    least: 0.4,
  },
  {
    what: 'HTTP with API keys: CPU of AUTH=none',
    contest: BY_WHO_ASKS,
    of: 'AUTH=api-key',
    against: 'AUTH=none',
    ...cpu,
    most: 1.05,
  },
  {
    what: 'HTTP with tokens: CPU of AUTH=none',
    contest: BY_WHO_ASKS,
    of: 'AUTH=jwt',
    against: 'AUTH=none',
    ...cpu,
    most: 1.12,
  },
  {
    what: 'HTTP with limits: CPU of the same without',
    contest: BY_WHO_ASKS,
    of: 'AUTH=api-key, limits',
    against: 'AUTH=api-key',
    ...cpu,
    most: 1.05,
  },
  {
    what: 'HTTP: orders/s against one SendMessage each',
    contest: 'HTTP',
    of: PRODUCER,
    against: 'Fastify, one SendMessage each',
    ...rate,
    least: 5,
  },
  { what: 'consume: requests per 1,000 orders', contest: NOOP, of: CONSUMER, ...requests, most: 205 },
  { what: 'publish: requests per 1,000 orders', contest: 'Publish', of: PRODUCER, ...requests, most: 102 },
  {
    what: 'publish packed: requests per 1,000 orders',
    contest: 'Publish packed',
    of: 'order-producer, packed',
    ...requests,
    most: 2,
  },
  {
    what: 'consume packed: requests per 1,000 orders',
    contest: 'Consume packed',
    of: 'order-consumer, packed',
    ...requests,
    most: 2,
  },
  {
    what: 'from sending to commit at 1,000 orders/s: p50',
    contest: FROM_SENDING,
    of: 'both services',
    measure: 'p50Ms',
    unit: ' ms',
    most: 25,
  },
  {
    what: 'from sending to commit at 1,000 orders/s: p99',
    contest: FROM_SENDING,
    of: 'both services',
    measure: 'p99Ms',
    unit: ' ms',
    most: 150,
  },
  {
    what: 'messages in work, across a step in the latency of the store: orders/s against the best fixed limit',
    contest: 'Messages in work',
    of: 'adaptive',
    against: { best: 'fixed' },
    ...rate,
    least: 1,
  },
  {
    what: 'RSS of order-producer under load, with all that saves memory',
    contest: 'Memory of order-producer under load',
    ...rss,
    most: 128,
  },
  {
    what: 'RSS of order-consumer under load, with all that saves memory',
    contest: 'Memory of order-consumer under load',
    ...rss,
    most: 128,
  },
  {
    what: 'CPU of a tuned request that consumes, of the limit without the SDK',
    contest: NOOP,
    of: 'SDK loop, tuned client',
    against: 'no SDK, the limit',
    ...cpu,
    most: 1.7,
  },
  {
    what: 'CPU of a tuned request that publishes, of the limit without the SDK',
    contest: 'Publish',
    of: 'SDK, batches, tuned client',
    against: 'no SDK, the limit',
    ...cpu,
    most: 1.7,
  },
];

/** Requests that were under way at both ends of the measuring are no reason to fail. */
const UNDER_WAY = 1.02;

/** The bars of what was run. */
export function judge(results: Results): JudgedBar[] {
  const contests = results.flatMap((result) => result.contests);
  return BARS.flatMap((bar) => {
    const { what, of, against, measure, unit = '' } = bar;
    const contest = contests.find(
      ({ title }) => title === bar.contest || title.startsWith(`${bar.contest},`),
    );
    const find = (name: string | undefined) => contest?.rows.find((row) => row.name === name);
    const rival = typeof against === 'object' ? best(contest?.rows, against.best, measure) : find(against);
    const measured = against ? ratio(find(of), rival, measure) : spread(find(of), measure);
    if (!measured) return [];
    const [sign, limit, met] =
      'least' in bar
        ? ['≥', bar.least, measured.median >= bar.least]
        : ['≤', bar.most, measured.median <= bar.most];
    return [
      {
        what,
        target: `${sign} ${round(limit)}${unit}`,
        measured,
        met,
        byCpu: measure === 'perSecond' ? ratio(rival, find(of), 'cpuPer10000') : undefined,
        costsTooManyRequests: measure === 'requestsPer1000' && measured.median > limit * UNDER_WAY,
      },
    ];
  });
}

/** Of those whose name begins so, the one with the highest median. */
function best(rows: readonly Row[] = [], beginning: string, measure: Measure): Row | undefined {
  const median = (row: Row) => spread(row, measure)?.median ?? 0;
  return rows.filter(({ name }) => name.startsWith(beginning)).toSorted((a, b) => median(b) - median(a))[0];
}
