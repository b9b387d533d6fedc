import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { decimal, defineCommand, httpUrl, runCommand, UsageError, type ValuesOf } from './command.ts';
import { explain, Judge, text } from './judge.ts';
import { LIMITS } from './watch-release/limits.ts';
import { ask, type Prometheus } from './watch-release/prometheus.ts';

/** Timers end at 2^31 ms, and what is longer fires at once. */
const MAX_PAUSE_SECONDS = 24 * 60 * 60;

export const command = defineCommand({
  name: 'npm run watch-release --',
  summary:
    'Repeatedly checks the figures of scripts/watch-release/limits.ts in a Prometheus. Continues beyond its time while a figure is in doubt.',
  positionals: {},
  options: {
    namespace: {
      takes: 'NAME',
      description: 'namespace of the release',
      schema: z
        .string()
        .regex(/^[a-z0-9-]+$/, 'must be a name in Kubernetes')
        .default('production'),
    },
    minutes: {
      takes: 'N',
      description: 'duration in minutes; 0 checks once',
      schema: decimal(0, 7 * 24 * 60).default(30),
    },
    every: {
      takes: 'SECONDS',
      description: 'interval between checks',
      schema: decimal(0.001, MAX_PAUSE_SECONDS).default(30),
    },
  },
  changes: 'nothing.',
  needs: 'PROMETHEUS_URL, and PROMETHEUS_TOKEN as the bearer token if it is set.',
  exitStatuses: {
    0: 'the release stays',
    1: 'a figure is beyond its limit in three checks in a row, or unavailable in ten: the release must be rolled back',
  },
});

/** From the release to what it is compared with: longer than a deployment takes. */
const BEFORE_MINUTES = 60;
const MINUTE_MS = 60_000;

if (import.meta.main) await runCommand(command, main);

async function main({ namespace, minutes, every }: ValuesOf<typeof command>): Promise<number> {
  const prometheus = prometheusOf(process.env);
  const judge = new Judge(LIMITS);
  const begin = Date.now();
  for (let looks = 1; ; looks += 1) {
    const elapsedMinutes = (Date.now() - begin) / MINUTE_MS;
    const before = `${Math.round(elapsedMinutes) + BEFORE_MINUTES}m`;
    const queries = LIMITS.map(({ query }) =>
      query.replaceAll('$namespace', namespace).replaceAll('$before', before),
    );
    const figures = await Promise.all(queries.map((query) => ask(prometheus, query)));
    const { verdict, breaches } = judge.look(figures);
    console.log(`${new Date().toISOString()} look ${looks}: ${verdict}`);
    for (const breach of breaches) console.log(`  ${explain(breach)}`);
    const done = elapsedMinutes >= minutes && verdict === 'stays';
    if (done || verdict === 'goes') {
      for (const [index, limit] of LIMITS.entries())
        console.log(`  ${limit.name}: ${text(limit, figures[index])}`);
      return done ? 0 : 1;
    }
    await sleep(every * 1_000);
  }
}

function prometheusOf({ PROMETHEUS_URL, PROMETHEUS_TOKEN }: NodeJS.ProcessEnv): Prometheus {
  const url = httpUrl.safeParse(PROMETHEUS_URL);
  if (!url.success) throw new UsageError(`PROMETHEUS_URL ${url.error.issues[0]?.message}`);
  return { url: url.data, token: PROMETHEUS_TOKEN };
}
