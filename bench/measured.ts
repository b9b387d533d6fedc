import { type Capacity, keptCapacity } from './capacity.ts';
import { type Measure, spread } from './contest.ts';
import { kept, type SuiteResult } from './results.ts';

/**
 * The median that was kept last of one contestant.
 * @throws {Error} bench/results does not have it
 */
export function measured(suite: string, contest: string, contestant: string, measure: Measure): number {
  const rows = kept<SuiteResult>(suite)?.contests.find(({ title }) => title === contest)?.rows;
  const found = spread(
    rows?.find(({ name }) => name === contestant),
    measure,
  );
  if (!found) throw new Error(`bench/results has no ${measure} of ${contestant} in ${contest}`);
  return found.median;
}

/**
 * What the performance test measured last.
 * @throws {Error} bench/results does not have it
 */
export function measuredCapacity(): Capacity {
  const capacity = keptCapacity();
  if (!capacity) throw new Error('bench/results has no capacity: scripts/performance-test.sh --report');
  return capacity;
}
