import { BACKENDS, STORES } from './backends.ts';
import { describeScenarios } from './scenarios.ts';

await describeScenarios(BACKENDS.embedded, STORES.sqlite);
