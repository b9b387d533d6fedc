import { existsSync, readFileSync } from 'node:fs';

/**
 * What a process tells of itself to the one that measures it. Any Node program has it with `--import`; a contestant
 * counts in it what it has done.
 */
export type Sample = {
  atMs: number;
  cpuSeconds: number;
  peakBytes: number;
  counts: Record<string, number>;
};

const counts: Record<string, number> = {};

export function count(what: string, times = 1): void {
  counts[what] = (counts[what] ?? 0) + times;
}

/** Says that the process is ready, with what whoever started it needs to know. */
export function ready(details: Record<string, unknown> = {}): void {
  process.send?.({ ready: details });
}

function sample(): Sample {
  const { user, system } = process.cpuUsage();
  return {
    atMs: performance.now(),
    cpuSeconds: (user + system) / 1e6,
    peakBytes: peakBytes(),
    counts: { ...counts },
  };
}

/** Of this program alone: what `process.resourceUsage()` tells on Linux includes the one that forked it. */
function peakBytes(): number {
  const status = '/proc/self/status';
  if (!existsSync(status)) return process.resourceUsage().maxRSS * 1_024;
  return Number(/^VmHWM:\s+(\d+) kB/m.exec(readFileSync(status, 'utf8'))?.[1]) * 1_024;
}

process.on('message', (request: 'exit' | { sample: number }) => {
  if (typeof request === 'object') process.send?.({ sample: sample(), number: request.sample });
  if (request === 'exit') process.exit();
});
// Whoever measures is gone: nothing is left behind.
process.on('disconnect', () => process.exit());
