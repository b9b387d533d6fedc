/** What a figure must keep to. */
export type Limit = {
  name: string;
  /** It is a share of something, and shown in percent. */
  share?: true;
  min?: number;
  max?: number;
  /** What it means that there is no value, for instance without traffic. */
  absent: 'is a breach' | 'is fine';
  /** How many looks in a row beyond it count; {@link LOOKS} unless told. */
  looks?: number;
};

/** A value; `undefined` where there is none; an Error when nobody could say. */
export type Figure = number | undefined | Error;
export type Breach = { limit: Limit; figure: Figure; looks: number };

/** One look alone is a scrape that was missed, or an order that was very large. */
export const LOOKS = 3;
/** Looks in a row in which a figure cannot be had: what is asked for it may be restarted, too. */
export const BLIND_LOOKS = 10;

/** Judges look after look whether a release stays. */
export class Judge {
  readonly #limits: readonly Limit[];
  readonly #streaks = new Map<Limit, { breached: number; blind: number }>();

  constructor(limits: readonly Limit[]) {
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
      trips ||= streak.breached >= (limit.looks ?? LOOKS) || streak.blind >= BLIND_LOOKS;
    }
    return { verdict: trips ? 'goes' : breaches.length > 0 ? 'doubtful' : 'stays', breaches };
  }
}

function isBreach({ min = -Infinity, max = Infinity, absent }: Limit, figure: number | undefined): boolean {
  if (figure === undefined) return absent === 'is a breach';
  return figure < min || figure > max;
}

export function explain({ limit, figure, looks }: Breach): string {
  const { name, min, max } = limit;
  const wanted = [
    ...(min === undefined ? [] : [`at least ${text(limit, min)}`]),
    ...(max === undefined ? [] : [`at most ${text(limit, max)}`]),
  ].join(', ');
  const again = limit.looks !== 1 ? `; ${looks}. look in a row` : '';
  return `${name}: ${text(limit, figure)}; must be ${wanted}${again}`;
}

export function text({ share }: Pick<Limit, 'share'>, figure: Figure): string {
  if (figure instanceof Error) return figure.message;
  if (figure === undefined) return 'no value';
  const short = (value: number) => String(Number(value.toPrecision(4)));
  return share ? `${short(figure * 100)} %` : short(figure);
}
