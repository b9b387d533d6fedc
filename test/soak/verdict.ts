/** What a service was seen to use at one moment. */
export type Sample = {
  /** Since the load began. */
  atMs: number;
  residentBytes: number;
  heapUsedBytes: number;
  handles: number;
  openFiles: number;
};

export type Figure = Exclude<keyof Sample, 'atMs'>;

/**
 * Of the second and the last third of a run: medians of memory, and the lowest deciles of handles and open files, without
 * those of the load's own connections. A leak raises these as well, and what comes and goes does not, nor a moment in which
 * the load has counted a connection that the service has not.
 */
export type Windows = Record<Figure, { before: number; last: number }>;

export const FIGURES = ['residentBytes', 'heapUsedBytes', 'handles', 'openFiles'] as const;

/** What may grow by so much is flat: a share, of memory and of what there are many of. */
export const MAX_GROWTH = 0.05;
/** Handles and open files, of which a service has few: a pool of connections breathes. */
export const MAX_MORE = 3;
/** The heap in use is a saw-tooth, and its memory is part of the resident one: shown, not judged. */
const JUDGED: readonly Figure[] = ['residentBytes', 'handles', 'openFiles'];

/** The first third is for warming up. @throws when a window has no sample */
export function windowsOf(samples: readonly Sample[], durationMs: number): Windows {
  const within = (from: number, to: number) =>
    samples.filter(({ atMs }) => atMs >= durationMs * from && atMs < durationMs * to);
  const [before, last] = [within(1 / 3, 2 / 3), within(2 / 3, 1)];
  const windows = FIGURES.map((figure) => {
    const typical = figure === 'handles' || figure === 'openFiles' ? lowestDecile : median;
    const of = (samples: readonly Sample[]) => typical(samples.map((sample) => sample[figure]));
    return [figure, { before: of(before), last: of(last) }];
  });
  return Object.fromEntries(windows) as Windows;
}

/** What grew, in words; nothing when all is flat. */
export function growthsOf(service: string, windows: Windows): string[] {
  return JUDGED.flatMap((figure) => {
    const { before, last } = windows[figure];
    return last > Math.max(before * (1 + MAX_GROWTH), before + MAX_MORE)
      ? [`${service}: ${figure} grew from ${before} to ${last}`]
      : [];
  });
}

const median = (values: readonly number[]) => rank(values, 0.5);
const lowestDecile = (values: readonly number[]) => rank(values, 0.1);

function rank(values: readonly number[], share: number): number {
  const value = values.toSorted((a, b) => a - b)[Math.floor(values.length * share)];
  if (value === undefined) throw new Error('no sample in a window: the run was too short');
  return value;
}
