import type { Limit } from './limits.ts';

/** What a query brought: `undefined` without a value; an Error when Prometheus could not say. */
export type Figure = number | undefined | Error;
export type Breach = { limit: Limit; figure: Figure; looks: number };

/** Looks in a row: one alone is a scrape that was missed, or an order that was very large. */
export const LOOKS_TO_TRIP = 3;
/** Prometheus may be restarted, too. */
export const BLIND_LOOKS_TO_TRIP = 10;

/** Judges look after look whether a release stays. */
export class Judge {
  readonly #limits: Limit[];
  readonly #streaks = new Map<Limit, { breached: number; blind: number }>();

  constructor(limits: Limit[]) {
    this.#limits = limits;
  }

  /**
   * Takes what was seen at the same time, in the order of the limits.
   * @returns `stays`, `doubtful` while something is wrong but not for long enough, `goes` for good
   */
  look(figures: Figure[]): { verdict: 'stays' | 'doubtful' | 'goes'; breaches: Breach[] } {
    const breaches: Breach[] = [];
    let trips = false;
    for (const [index, limit] of this.#limits.entries()) {
      const figure = figures[index];
      const before = this.#streaks.get(limit) ?? { breached: 0, blind: 0 };
      // What cannot be seen neither ends a breach nor prolongs it.
      const streak =
        figure instanceof Error
          ? { ...before, blind: before.blind + 1 }
          : { breached: isBreach(limit, figure) ? before.breached + 1 : 0, blind: 0 };
      this.#streaks.set(limit, streak);
      if (streak.breached > 0 || streak.blind > 0) {
        breaches.push({ limit, figure, looks: Math.max(streak.breached, streak.blind) });
      }
      trips ||= streak.breached >= LOOKS_TO_TRIP || streak.blind >= BLIND_LOOKS_TO_TRIP;
    }
    return { verdict: trips ? 'goes' : breaches.length > 0 ? 'doubtful' : 'stays', breaches };
  }
}

function isBreach({ min = -Infinity, max = Infinity, absent }: Limit, figure: number | undefined): boolean {
  if (figure === undefined) return absent === 'is a breach';
  return figure < min || figure > max;
}
