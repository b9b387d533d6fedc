import { afterAll, beforeAll, describe } from 'vitest';
import { describeDeployed } from '../deployed/scenarios.ts';
import { type Pair, startPair } from '../support/pair.ts';

/** So that a scenario which cannot hold is found before anything is deployed. */
describe('scenarios of a deployment, on the embedded pair', () => {
  let pair: Pair;
  beforeAll(async () => {
    pair = await startPair();
  });
  afterAll(() => pair?.[Symbol.asyncDispose]());

  describeDeployed(() => pair);
});
