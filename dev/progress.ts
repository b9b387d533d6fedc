import { Presets, SingleBar } from 'cli-progress';

/** A bar on a terminal, nothing elsewhere: a log needs no bar. Written to standard error. */
export function createProgress(
  title: string,
  total: number,
): { update: (value: number) => void; stop: () => void } {
  if (!process.stderr.isTTY) return { update: () => {}, stop: () => {} };
  const bar = new SingleBar(
    { format: `${title} {bar} {percentage}% {value}/{total} {duration_formatted}`, stream: process.stderr },
    Presets.shades_classic,
  );
  bar.start(total, 0);
  return { update: (value) => bar.update(Math.min(value, total)), stop: () => bar.stop() };
}
