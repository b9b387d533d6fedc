import { type Breach, explain, Judge } from '../judge.ts';
import { placeSyntheticOrder, serviceTarget } from './checks.ts';
import type { Session } from './context.ts';
import { DeploymentError, hasCode } from './errors.ts';
import { LIMITS, MIN_HANDLED, type Seen, summary } from './limits.ts';
import type { ServiceName, Track } from './manifests.ts';
import { pause, within } from './pause.ts';
import { type Figures, growth, type Observed, readFigures } from './pod-figures.ts';

const SAMPLE_EVERY_MS = 2_000;
/** A candidate that got little work in the time of the watch is given more, so many times over. */
const PATIENCE = 3;

export type Watching = Pick<Session, 'kubectl' | 'http' | 'signal' | 'say' | 'watchSeconds'>;

/** Pods on trial. */
export type Watched = {
  service: ServiceName;
  track: Track;
  image?: string;
  /** What the service did before the release came. */
  before: Observed | undefined;
};

/**
 * Watches pods until the judge has decided. A candidate of the consumer works beside the stable pods: it is compared with
 * them, and they with what they did before. Whatever takes the place of others is compared with what these did. Synthetic
 * orders see to it that there is something to judge when no one orders.
 * @throws {DeploymentError} CHECK_FAILED, NO_ANSWER when it must go back
 */
export async function watch(context: Watching, { service, track, image, before }: Watched): Promise<void> {
  const judge = new Judge(LIMITS);
  const takesTraffic = service === 'order-producer' && track === 'candidate';
  const isBeside = service === 'order-consumer' && track === 'candidate';
  const read = () => readFigures(context, service, track, image);
  const readStable = async () => (await readFigures(context, service, 'stable')).figures;
  const startedAt = performance.now();
  const [atFirst, stableAtFirst] = [(await read()).figures, await readStable()];
  for (let orders = 1; ; ) {
    await pause(context.signal, SAMPLE_EVERY_MS);
    await order(context, orders, takesTraffic);
    const { figures, silent } = await read();
    const stablePods = await readStable();
    const stable = growth(stableAtFirst, stablePods);
    const overSeconds = (performance.now() - startedAt) / 1_000;
    const trial = { ...growth(atFirst, figures), overSeconds };
    const reference = isBeside ? stable : (before ?? stable);
    const { verdict, breaches } = judgeAll(judge, {
      trial,
      reference,
      silent,
      ...(isBeside && before ? { others: { now: stable, before } } : {}),
      ...(takesTraffic && before ? { displaced: before } : {}),
    });
    const compared = `${summary(trial)} (${reference === before ? 'before' : 'stable'}: ${summary(reference)})`;
    if (verdict === 'goes') throw failed(`${service} ${track}: ${reasons(breaches)}; ${compared}`);
    const isOver = overSeconds >= context.watchSeconds;
    if (isOver && verdict === 'stays' && trial.handled >= MIN_HANDLED) {
      context.say(`  watched for ${overSeconds.toFixed(0)} s: ${compared}`);
      return;
    }
    if (overSeconds >= context.watchSeconds * PATIENCE) {
      const little = `has handled only ${trial.handled} of ${MIN_HANDLED} in ${overSeconds.toFixed(0)} s`;
      throw failed(`${service} ${track} ${little}: too little to judge it by`);
    }
    // Whoever polls gets a share: so many orders that each pod may expect two.
    if (isOver) orders = 2 * (figures.size + (track === 'candidate' ? stablePods.size : 0));
  }
}

const judgeAll = (judge: Judge, seen: Seen) => judge.look(LIMITS.map(({ of }) => of(seen)));
const reasons = (breaches: Breach[]) => breaches.map(explain).join('; ');

/** What is wrong with pods that were watched for a while; nothing when they may stay. */
export function whyWorse(trial: Observed, before: Figures): string | undefined {
  const { verdict, breaches } = judgeAll(new Judge(LIMITS), { trial, reference: before });
  return verdict === 'goes' ? reasons(breaches) : undefined;
}

/** What both services do as they are, over the time of a watch. @param ordering whether there are synthetic orders */
export async function observe(
  context: Watching,
  { ordering }: { ordering: boolean },
): Promise<Record<ServiceName, Observed>> {
  const read = async (service: ServiceName) => (await readFigures(context, service, 'stable')).figures;
  const startedAt = performance.now();
  const atFirst = {
    'order-producer': await read('order-producer'),
    'order-consumer': await read('order-consumer'),
  };
  const seconds = () => (performance.now() - startedAt) / 1_000;
  while (seconds() < context.watchSeconds) {
    await pause(context.signal, SAMPLE_EVERY_MS);
    if (ordering) await order(context, 1, false);
  }
  const since = async (service: ServiceName) => ({
    ...growth(atFirst[service], await read(service)),
    overSeconds: seconds(),
  });
  return { 'order-producer': await since('order-producer'), 'order-consumer': await since('order-consumer') };
}

/** Connections live 5 s: whoever ordered within them has a new one by now, to the other side. */
const QUIET_FOR_MS = 6_000;
const QUIET_TIMEOUT_SECONDS = 30;

/** Waits until pods that were switched away from get no orders any more: their connections have ended, or are idle. */
export async function quiet(context: Watching, service: ServiceName, track: Track): Promise<void> {
  const read = async () => (await readFigures(context, service, track)).figures;
  let before = await read();
  let quietSince = performance.now();
  const isQuiet = await within(context.signal, QUIET_TIMEOUT_SECONDS, SAMPLE_EVERY_MS, async () => {
    const now = await read();
    if (growth(before, now).handled > 0) quietSince = performance.now();
    before = now;
    return performance.now() - quietSince >= QUIET_FOR_MS || undefined;
  });
  if (!isQuiet) context.say(`  ${service} ${track} still gets orders; its pods finish them when they end`);
}

/**
 * Orders through the Service, for the judge to see. A refusal is in the pods' own figures; what gets no answer is in
 * none, so that it counts here, against the pods that have the traffic and are on trial.
 */
async function order({ http }: Watching, count: number, isOnTrial: boolean): Promise<void> {
  const place = () => placeSyntheticOrder(http, serviceTarget('order-producer'));
  for (const result of await Promise.allSettled(Array.from({ length: count }, place))) {
    if (result.status === 'fulfilled' || hasCode(result.reason, 'CHECK_FAILED')) continue;
    if (isOnTrial || !hasCode(result.reason, 'NO_ANSWER')) throw result.reason;
  }
}

const failed = (message: string) => new DeploymentError('CHECK_FAILED', message);
