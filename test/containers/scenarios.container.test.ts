import { BACKENDS, STORES } from '../support/backends.ts';
import { describeScenarios } from '../support/scenarios.ts';

await describeScenarios(BACKENDS.localStack4, STORES.postgres);
await describeScenarios(BACKENDS.localStack3, STORES.sqlite);
await describeScenarios(BACKENDS.elasticMq, STORES.sqlite);
await describeScenarios(BACKENDS.given, STORES.sqlite);
