import type { Limit } from '../judge.ts';
import type { Figures, Observed } from './pod-figures.ts';

/** What was seen of pods on trial since their watch began, and of those that they are compared with. */
export type Seen = {
  trial: Observed;
  reference: Figures;
  /** Pods that nobody changed, now and before the release came: it shares its database and its queue with them. */
  others?: { now: Figures; before: Figures };
  /** What was done before by those that have all the traffic now. */
  displaced?: Observed;
  /** Ready pods that do not answer. */
  silent?: readonly string[];
};

/** Fewer requests or messages prove nothing: a candidate must have handled so many before it may pass. */
export const MIN_HANDLED = 20;
/** Fewer failures, or dead letters, may be chance. */
const MIN_FAILURES = 3;
/** Twice a millisecond harms nobody. */
const SLOW_ABOVE_SECONDS = 0.25;
/** Connections follow a switch within 5 s. */
const STALLED_AFTER_SECONDS = 8;

/** A synthetic order must be stored within. */
export const STORED_WITHIN_SECONDS = 30;
/** Answer to one order through the preview Service, the median of several. */
export const PREVIEW_LATENCY_SECONDS = 1;
/** After a deployment, so many pods may be missing, rounded up: an autoscaler adds them when it likes, … */
export const UNAVAILABLE_SHARE = 0.25;
/** … and this soon no more than that. */
export const SETTLED_WITHIN_SECONDS = 60;

type PodLimit = Limit & { of: (seen: Seen) => number | undefined };

/** Decided at the first look, unless told; no value is no evidence. */
const limit = (
  name: string,
  bounds: Pick<Limit, 'min' | 'max' | 'looks' | 'share'>,
  of: PodLimit['of'],
): PodLimit => ({
  name,
  absent: 'is fine',
  looks: 1,
  ...bounds,
  of,
});

/** When a release is worse than what runs. The one place to tune it. */
export const LIMITS = [
  limit('restarts', { max: 0 }, ({ trial }) => trial.restarts),
  limit('share that failed, beyond the reference', { max: 0.02, share: true }, ({ trial, reference }) =>
    beyond('failed', trial, reference),
  ),
  limit(
    'share that was dead-lettered, beyond the reference',
    { max: 0.002, share: true },
    ({ trial, reference }) => beyond('deadLettered', trial, reference),
  ),
  limit('mean handling time, as a multiple of the reference', { max: 2 }, slowdown),
  limit(
    'share that failed at the pods of before, beyond what it was',
    { max: 0.02, share: true },
    ({ others }) => others && beyond('failed', others.now, others.before),
  ),
  limit(
    'share dead-lettered by the pods of before, beyond what it was',
    { max: 0.002, share: true },
    ({ others }) => others && beyond('deadLettered', others.now, others.before),
  ),
  // Answers that never come are in no other figure.
  limit('handled, as a share of what was done before in the time', { min: 0.2, share: true }, throughput),
  limit('ready pods that do not answer', { max: 0, looks: 3 }, ({ silent }) => silent?.length),
];

const share = (figures: Figures, what: 'failed' | 'deadLettered') =>
  figures.handled > 0 ? figures[what] / figures.handled : 0;
const meanSeconds = ({ seconds, measured }: Figures) => (measured > 0 ? seconds / measured : 0);

function beyond(what: 'failed' | 'deadLettered', now: Figures, reference: Figures): number | undefined {
  return now[what] < MIN_FAILURES ? undefined : share(now, what) - share(reference, what);
}

/** Without work to compare with, the floor is the limit. */
function slowdown({ trial, reference }: Seen): number | undefined {
  if (trial.handled < MIN_HANDLED || meanSeconds(trial) <= SLOW_ABOVE_SECONDS) return undefined;
  return meanSeconds(trial) / meanSeconds(reference);
}

function throughput({ trial, displaced }: Seen): number | undefined {
  if (!displaced || trial.overSeconds < STALLED_AFTER_SECONDS) return undefined;
  const expected = (displaced.handled / displaced.overSeconds) * trial.overSeconds;
  return expected < MIN_HANDLED ? undefined : trial.handled / expected;
}

export function summary(figures: Figures): string {
  const { handled, failed, deadLettered } = figures;
  const milliseconds = (meanSeconds(figures) * 1_000).toFixed(0);
  return `${handled} handled, ${failed} failed, ${deadLettered} dead-lettered, ${milliseconds} ms on average`;
}
