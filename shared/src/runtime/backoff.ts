/** Exponential back-off with equal jitter: ½ to 1 times min(max, base · 2^attempt); attempts count from 0. */
export function backoffMs(attempt: number, { baseMs, maxMs }: { baseMs: number; maxMs: number }): number {
  const ceiling = Math.min(maxMs, baseMs * 2 ** Math.min(attempt, 30));
  return ceiling / 2 + (Math.random() * ceiling) / 2;
}

export function randomBetween(min: number, max: number): number {
  return min + Math.random() * (max - min);
}
