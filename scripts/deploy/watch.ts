import { checkHealth, checkStored, persistently, placeSyntheticOrder, serviceTarget } from './checks.ts';
import type { Context } from './context.ts';
import { DeploymentError, hasCode } from './errors.ts';
import { type Figures, judge, type Observed, stalled, summary, worsened } from './judge.ts';
import { SERVICES, type ServiceName, type Track } from './manifests.ts';
import { pause } from './pause.ts';
import { type FiguresByPod, growth, readFigures } from './pod-figures.ts';
import { THRESHOLDS } from './thresholds.ts';

const SAMPLE_EVERY_MS = 2_000;
/** A candidate that got little work in the time of the watch is given more, so many times over. */
const PATIENCE = 3;
/** So many looks in a row at which a pod that counts as ready does not answer. */
const SILENT_LOOKS = 3;

type Watching = Pick<Context, 'kubectl' | 'http' | 'signal' | 'say' | 'watchSeconds' | 'tag'>;

/** Pods on trial. They are compared with `reference`, or else with the stable pods of the same time. */
export type Watched = {
  service: ServiceName;
  track: Track;
  image?: string;
  reference?: Observed;
  /** What the stable pods did before the release came: they must not get worse by it either. */
  before?: Figures;
};

/**
 * Watches pods until the judge has decided. Synthetic orders see to it that there is something to judge when no one
 * orders.
 * @throws {DeploymentError} CHECK_FAILED, NO_ANSWER when it must go back
 */
export async function watch(context: Watching, watched: Watched): Promise<void> {
  const { service, track, image, reference, before } = watched;
  const startedAt = performance.now();
  const read = () => readFigures(context, service, track, image);
  const readStable = async () => (await readFigures(context, service, 'stable')).figures;
  const [atFirst, stableAtFirst] = [(await read()).figures, await readStable()];
  const takesTraffic = service === 'order-producer' && track === 'candidate';
  for (let silentLooks = 0, orders = 1; ; ) {
    await pause(context.signal, SAMPLE_EVERY_MS);
    await order(context, orders, takesTraffic);
    const { figures, silent } = await read();
    silentLooks = silent.length > 0 ? silentLooks + 1 : 0;
    if (silentLooks === SILENT_LOOKS) throw failed(`${silent.join(', ')} does not answer`);
    const trial = growth(atFirst, figures);
    const stablePods = await readStable();
    const stable = growth(stableAtFirst, stablePods);
    const seconds = (performance.now() - startedAt) / 1_000;
    const isOver = seconds >= context.watchSeconds;
    const { verdict, reasons } = judge(trial, reference ?? stable, THRESHOLDS, isOver);
    const against = [
      ...(verdict === 'go back' ? reasons : []),
      ...(takesTraffic && reference ? stalled(trial, seconds, reference, THRESHOLDS) : []),
      ...(track === 'candidate' && before ? worsened(stable, before, THRESHOLDS) : []).map(
        (reason) => `the pods of before: ${reason}`,
      ),
    ];
    if (against.length > 0) throw failed(`${service} ${track}: ${against.join('; ')}`);
    if (verdict === 'go on') {
      const compared = reference ? `before: ${summary(reference)}` : `stable: ${summary(stable)}`;
      context.say(`  watched for ${seconds.toFixed(0)} s: ${summary(trial)} (${compared})`);
      return;
    }
    if (seconds >= context.watchSeconds * PATIENCE) {
      const little = `has handled only ${trial.handled} of ${THRESHOLDS.minHandled} in ${seconds.toFixed(0)} s`;
      throw failed(`${service} ${track} ${little}: too little to judge it by`);
    }
    // Whoever polls gets a share: so many orders that each pod may expect two.
    if (isOver) orders = 2 * (figures.size + (track === 'candidate' ? stablePods.size : 0));
  }
}

/** What both services do as they are, over the time of a watch. */
export async function observe(context: Watching): Promise<Record<ServiceName, Observed>> {
  const read = async (service: ServiceName) => (await readFigures(context, service, 'stable')).figures;
  const [producers, consumers] = [await read('order-producer'), await read('order-consumer')];
  const startedAt = performance.now();
  const seconds = () => (performance.now() - startedAt) / 1_000;
  while (seconds() < context.watchSeconds) {
    await pause(context.signal, SAMPLE_EVERY_MS);
    await order(context, 1, false);
  }
  const since = async (service: ServiceName, before: FiguresByPod) => ({
    ...growth(before, await read(service)),
    overSeconds: seconds(),
  });
  return {
    'order-producer': await since('order-producer', producers),
    'order-consumer': await since('order-consumer', consumers),
  };
}

/**
 * Whether what serves still does as well as before.
 * @throws {DeploymentError} CHECK_FAILED, NO_ANSWER
 */
export async function checkUnharmed(context: Watching, before?: Record<ServiceName, Figures>): Promise<void> {
  const { http, signal, tag } = context;
  for (const service of SERVICES) await persistently(signal, () => checkHealth(http, serviceTarget(service)));
  const { orderId } = await persistently(signal, () =>
    placeSyntheticOrder(http, serviceTarget('order-producer'), tag),
  );
  await checkStored(context, [orderId]);
  const now = await observe(context);
  for (const service of SERVICES) {
    const reasons = before ? worsened(now[service], before[service], THRESHOLDS) : [];
    if (reasons.length > 0) throw failed(`${service}: ${reasons.join('; ')}`);
  }
  context.say(`  still well: ${SERVICES.map((service) => summary(now[service])).join('; ')}`);
}

/** Connections live 5 s: whoever ordered within them has a new one by now, to the other side. */
const QUIET_FOR_MS = 6_000;
const QUIET_TIMEOUT_MS = 30_000;

/** Waits until pods that were switched away from get no orders any more: their connections have ended, or are idle. */
export async function quiet(context: Watching, service: ServiceName, track: Track): Promise<void> {
  const read = async () => (await readFigures(context, service, track)).figures;
  const giveUpAt = performance.now() + QUIET_TIMEOUT_MS;
  let before = await read();
  for (let quietSince = performance.now(); performance.now() < giveUpAt; ) {
    await pause(context.signal, SAMPLE_EVERY_MS);
    const now = await read();
    if (growth(before, now).handled > 0) quietSince = performance.now();
    else if (performance.now() - quietSince >= QUIET_FOR_MS) return;
    before = now;
  }
  context.say(`  ${service} ${track} still gets orders; its pods finish them when they end`);
}

/**
 * Orders through the Service, for the judge to see. A refusal is in the pods' own figures; what gets no answer is in
 * none, so that it counts here, against the pods that have the traffic and are on trial.
 */
async function order({ http, tag }: Watching, count: number, isOnTrial: boolean): Promise<void> {
  const place = () => placeSyntheticOrder(http, serviceTarget('order-producer'), tag);
  for (const result of await Promise.allSettled(Array.from({ length: count }, place))) {
    if (result.status === 'fulfilled' || hasCode(result.reason, 'CHECK_FAILED')) continue;
    if (isOnTrial || !hasCode(result.reason, 'NO_ANSWER')) throw result.reason;
  }
}

const failed = (message: string) => new DeploymentError('CHECK_FAILED', message);
