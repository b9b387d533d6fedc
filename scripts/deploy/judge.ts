import type { Thresholds } from './thresholds.ts';

/** What a group of pods has done since the watch began. */
export type Figures = {
  /** Requests or messages. */
  handled: number;
  /** Of these, the ones that failed through no fault of the client: 5xx; retry, rejected, released in an outage. */
  failed: number;
  deadLettered: number;
  /** Handling time of all measured pieces of work (requests, batches), and their number. */
  seconds: number;
  measured: number;
  /** Containers that died and were started again. */
  restarts: number;
};

/** What pods did, and how long they were watched. */
export type Observed = Figures & { overSeconds: number };

export type Judgement = { verdict: 'go on' | 'wait' | 'go back'; reasons: string[] };

export const NO_FIGURES: Figures = {
  handled: 0,
  failed: 0,
  deadLettered: 0,
  seconds: 0,
  measured: 0,
  restarts: 0,
};

/**
 * Compares a candidate with what runs. Any one reason suffices to go back, at once; to go on it needs enough work seen
 * and the time of the watch. A candidate that nobody gives work is waited for.
 */
export function judge(
  candidate: Figures,
  stable: Figures,
  thresholds: Thresholds,
  watchIsOver: boolean,
): Judgement {
  const against = [
    candidate.restarts > 0 && `${candidate.restarts} restarts`,
    exceeds('failed', candidate, stable, thresholds.extraErrorShare, thresholds.minFailures),
    exceeds('deadLettered', candidate, stable, thresholds.extraDeadLetterShare, thresholds.minFailures),
    tooSlow(candidate, stable, thresholds),
  ].filter((reason) => reason !== false);
  if (against.length > 0) return { verdict: 'go back', reasons: against };
  if (candidate.handled < thresholds.minHandled) {
    return { verdict: 'wait', reasons: [`${candidate.handled} of ${thresholds.minHandled} handled`] };
  }
  return { verdict: watchIsOver ? 'go on' : 'wait', reasons: [summary(candidate)] };
}

/** Why pods that nobody changed do worse than before the release came: it shares its database and its queue with them. */
export function worsened(now: Figures, before: Figures, thresholds: Thresholds): string[] {
  return [
    exceeds('failed', now, before, thresholds.extraErrorShare, thresholds.minFailures, 'before'),
    exceeds('deadLettered', now, before, thresholds.extraDeadLetterShare, thresholds.minFailures, 'before'),
  ].filter((reason) => reason !== false);
}

/**
 * Whether pods with all the traffic get far less done than was done before in the time: answers that never come are in
 * no other figure.
 */
export function stalled(now: Figures, seconds: number, before: Observed, thresholds: Thresholds): string[] {
  const expected = (before.handled / before.overSeconds) * seconds;
  const isEvidence = seconds >= thresholds.stalledAfterSeconds && expected >= thresholds.minHandled;
  if (!isEvidence || now.handled >= expected * thresholds.minThroughputShare) return [];
  return [
    `${now.handled} handled in ${seconds.toFixed(0)} s, where ${expected.toFixed(0)} were to be expected`,
  ];
}

export function summary({ handled, failed, deadLettered, ...rest }: Figures): string {
  const milliseconds = (meanSeconds({ handled, failed, deadLettered, ...rest }) * 1_000).toFixed(0);
  return `${handled} handled, ${failed} failed, ${deadLettered} dead-lettered, ${milliseconds} ms on average`;
}

const meanSeconds = ({ seconds, measured }: Figures) => (measured > 0 ? seconds / measured : 0);
const share = (figures: Figures, what: 'failed' | 'deadLettered') =>
  figures.handled > 0 ? figures[what] / figures.handled : 0;
const percent = (value: number) => `${(value * 100).toFixed(1)} %`;

function exceeds(
  what: 'failed' | 'deadLettered',
  candidate: Figures,
  stable: Figures,
  extraShare: number,
  minFailures: number,
  whose = 'stable',
): string | false {
  const [ours, theirs] = [share(candidate, what), share(stable, what)];
  if (candidate[what] < minFailures || ours <= theirs + extraShare) return false;
  const word = what === 'failed' ? 'failed' : 'dead-lettered';
  return `${candidate[what]} of ${candidate.handled} ${word} (${percent(ours)}; ${whose} ${percent(theirs)})`;
}

function tooSlow(candidate: Figures, stable: Figures, thresholds: Thresholds): string | false {
  const [ours, theirs] = [meanSeconds(candidate), meanSeconds(stable)];
  if (candidate.handled < thresholds.minHandled || ours <= thresholds.slowAboveSeconds) return false;
  // Without work to compare with, the floor is the limit.
  if (stable.measured > 0 && ours <= theirs * thresholds.slowdown) return false;
  return `${ours.toFixed(3)} s on average (stable ${theirs.toFixed(3)} s)`;
}
