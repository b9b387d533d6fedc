import { placeSyntheticOrder, serviceTarget } from './checks.ts';
import { type Context, pause } from './context.ts';
import { DeploymentError } from './errors.ts';
import { type Figures, judge, NO_FIGURES, summary } from './judge.ts';
import type { ServiceName, Track } from './manifests.ts';
import { growth, readFigures } from './pod-figures.ts';
import { THRESHOLDS } from './thresholds.ts';

const SAMPLE_EVERY_MS = 2_000;
/** A candidate that got little work in the time of the watch is given more, so many times over. */
const PATIENCE = 3;

export type Watched = { service: ServiceName; track: Track; image?: string; reference?: Figures };

/**
 * Watches pods until the judge has decided. A synthetic order with each sample sees to it that there is something to
 * judge when no one orders.
 * @param watched compared with `reference`, or with the stable pods of the same time
 * @returns the figures of the stable pods, as a reference for later
 * @throws {DeploymentError} CHECK_FAILED when it must go back
 */
export async function watch(context: Context, watched: Watched): Promise<Figures> {
  const { service, track, image, reference } = watched;
  const startedAt = performance.now();
  const read = () => readFigures(context, service, track, image);
  const readStable = () => (reference ? new Map() : readFigures(context, service, 'stable'));
  const [candidateBefore, stableBefore] = [await read(), await readStable()];
  for (;;) {
    await pause(context.signal, SAMPLE_EVERY_MS);
    await placeSyntheticOrder(context.http, serviceTarget('order-producer'), context.tag);
    const candidate = growth(candidateBefore, await read());
    const stable = reference ?? growth(stableBefore, await readStable());
    const seconds = (performance.now() - startedAt) / 1_000;
    const { verdict, reasons } = judge(candidate, stable, THRESHOLDS, seconds >= context.watchSeconds);
    if (verdict === 'go back') {
      throw new DeploymentError('CHECK_FAILED', `${service} ${track}: ${reasons.join('; ')}`);
    }
    const outOfPatience = seconds >= context.watchSeconds * PATIENCE;
    if (outOfPatience && candidate.handled === 0) {
      throw new DeploymentError(
        'CHECK_FAILED',
        `${service} ${track} has handled nothing in ${seconds.toFixed(0)} s`,
      );
    }
    if (verdict === 'go on' || outOfPatience) {
      context.say(
        `  watched for ${seconds.toFixed(0)} s: ${summary(candidate)} (stable: ${summary(stable)})`,
      );
      return stable.handled > 0 ? stable : NO_FIGURES;
    }
  }
}

/** Waits until pods that were switched away from get no orders any more, at most as long as a connection lives. */
export async function quiet(context: Context, service: ServiceName, track: Track): Promise<void> {
  const giveUpAt = performance.now() + QUIET_TIMEOUT_MS;
  for (let before = await readFigures(context, service, track); performance.now() < giveUpAt; ) {
    await pause(context.signal, SAMPLE_EVERY_MS);
    const now = await readFigures(context, service, track);
    if (growth(before, now).handled === 0) return;
    before = now;
  }
  context.say(`  ${service} ${track} still gets orders; its pods finish them when they end`);
}

/** Connections live 5 s, and a client's pause between two requests may be longer. */
const QUIET_TIMEOUT_MS = 20_000;
