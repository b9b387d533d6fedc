import { type Contest, type ContestResult, compete, type Pace } from './contest.ts';

/** One subject, measured in one sitting. */
export type SuiteContext = {
  /** `quick` only finds out whether it runs. */
  quick: boolean;
  pace: Pace;
  compete: (contest: Contest, pace?: Partial<Pace>) => Promise<ContestResult>;
  note: (line: string) => void;
};
export type Suite = { run: (context: SuiteContext) => Promise<ContestResult[]> };

const FULL: Pace = { warmMs: 1_500, measureMs: 2_500, rounds: 5 };
const QUICK: Pace = { warmMs: 300, measureMs: 2_000, orders: 3_000, rounds: 1 };
/** Where a figure needs more orders, as requests of a thousand do: one more or less must not matter on a busy machine. */
const QUICK_MANY = { measureMs: 15_000, orders: 100_000 };

/** @param rounds of each contest, whatever it has by itself */
export function contextOf(quick: boolean, note: (line: string) => void, rounds?: number): SuiteContext {
  const asked = rounds ? { rounds } : {};
  const pace = { ...(quick ? QUICK : FULL), ...asked };
  return {
    quick,
    pace,
    note,
    compete: (contest, other = {}) =>
      compete(
        contest,
        quick ? { ...QUICK, ...(other.orders ? QUICK_MANY : {}) } : { ...pace, ...other, ...asked },
        note,
      ),
  };
}
