import { existsSync, readFileSync } from 'node:fs';
import type { ViolationCode } from './invariants.ts';
import type { TrialResult } from './trial.ts';

/** One line of the campaign's results file. */
export type RecordedTrial = Omit<
  TrialResult,
  'timeline' | 'failures' | 'struck' | 'unjournaled' | 'peakBytes' | 'inWork'
> & {
  /** Not in lines of before 2026-11-25. */
  failures?: number;
  /** Not in older lines, as the next two. */
  struck?: Record<string, number>;
  unjournaled?: number;
  /** Not in lines of before 2026-11-27, as the next two: the vocabulary of `docs/reliability.md#defects` is younger. */
  peakBytes?: number;
  inWork?: number;
  /** How the database refused orders. */
  refusal?: string;
  /** What was tried, with a `+` where code differed from the commit. Not of a copy outside a repository. */
  commit?: string | undefined;
  at: string;
  seed: number;
  trial: number;
  faults: string[];
  /** Not in lines of before 2026-11-25, when there was the embedded one only. */
  backend?: string;
  store: string;
  consumers: number;
  /** Drawn for the services. Not in lines of before 2026-11-25. */
  settings?: Record<string, string>;
  /** Drawn, and left out for want of means; in lines without `struck` all faults that the machine had no means for. */
  skipped: string[];
};

/** One line of the mutations' results file. */
export type RecordedMutation = {
  at: string;
  name: string;
  /** By what it should be caught. */
  expected: ViolationCode;
  /** By what it was caught, in the first trial that failed; none when it was not. */
  caughtBy: ViolationCode[];
  trials: number;
  seed: number;
  trial: number | undefined;
  fault: string;
};

/** The lines of a results file, in order; none when there is no such file. */
export function readLines<T>(file: string): T[] {
  if (!existsSync(file)) return [];
  const lines = readFileSync(file, 'utf8').split('\n');
  return lines.filter((line) => line !== '').map((line) => JSON.parse(line) as T);
}
