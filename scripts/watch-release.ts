import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { runTool, UsageError } from './sqs-tool.ts';
import { type Breach, Judge } from './watch-release/judge.ts';
import { LIMITS } from './watch-release/limits.ts';
import { ask, type Prometheus } from './watch-release/prometheus.ts';

const USAGE = `usage: npm run watch-release -- [--namespace=production] [--minutes=30] [--every=30]

  Looks at the figures of scripts/watch-release/limits.ts, in the Prometheus at PROMETHEUS_URL (with PROMETHEUS_TOKEN as
  bearer token, where it is set), every so many seconds, for so many minutes; 0 is one look. Goes on beyond them while
  something is in doubt. Exit status 1, at once, when a figure is beyond its limit in three looks in a row or cannot be
  had in ten: the release must go back.`;

/** From the release to what it is compared with: longer than a deployment takes. */
const BEFORE_MINUTES = 60;
const MINUTE_MS = 60_000;

await runTool(async () => {
  const { namespace, minutes, everyMs, prometheus } = readOptions();
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
      for (const [index, { name }] of LIMITS.entries()) console.log(`  ${name}: ${text(figures[index])}`);
      return done ? 0 : 1;
    }
    await sleep(everyMs);
  }
});

function readOptions(): { namespace: string; minutes: number; everyMs: number; prometheus: Prometheus } {
  try {
    const { values } = parseArgs({
      options: {
        namespace: { type: 'string', default: 'production' },
        minutes: { type: 'string', default: '30' },
        every: { type: 'string', default: '30' },
      },
    });
    const [minutes, every] = [Number(values.minutes), Number(values.every)];
    if (!(minutes >= 0 && every > 0)) throw new Error('--minutes must be at least 0, --every above 0');
    if (!/^[a-z0-9-]+$/.test(values.namespace)) throw new Error('--namespace is a name in Kubernetes');
    const { PROMETHEUS_URL: url, PROMETHEUS_TOKEN: token } = process.env;
    if (!url) throw new Error('PROMETHEUS_URL says nothing');
    return { namespace: values.namespace, minutes, everyMs: every * 1_000, prometheus: { url, token } };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), USAGE);
  }
}

function explain({ limit, figure, looks }: Breach): string {
  const wanted = [
    ...(limit.min === undefined ? [] : [`at least ${limit.min}`]),
    ...(limit.max === undefined ? [] : [`at most ${limit.max}`]),
  ].join(', ');
  return `${limit.name}: ${text(figure)}; must be ${wanted}; ${looks}. look in a row`;
}

function text(figure: Breach['figure']): string {
  if (figure instanceof Error) return figure.message;
  return figure === undefined ? 'no value' : String(Number(figure.toPrecision(4)));
}
