import { BACKENDS, STORES } from '../support/backends.ts';
import { describeScenarios } from '../support/scenarios.ts';

await describeScenarios(BACKENDS.embedded, STORES.sqlite);
