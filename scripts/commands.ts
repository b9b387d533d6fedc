import { command as bench } from '../bench/main.ts';
import { command as performanceTest } from '../bench/performance-test.ts';
import { command as deadLetters } from '../dev/dead-letters.ts';
import { command as demo } from '../dev/demo.ts';
import { command as start } from '../dev/start.ts';
import { bootstrap, deploy as deployInfra, diff } from '../infra/commands.ts';
import { command as monitoring } from '../monitoring/start.ts';
import { command as api } from '../test/api/fuzz.ts';
import { command as faults } from '../test/faults/campaign.ts';
import { command as mutations } from '../test/faults/mutations.ts';
import { command as faultsReport } from '../test/faults/report.ts';
import { command as soak } from '../test/soak/soak.ts';
import { command as ack } from './ack.ts';
import { command as assignClient } from './assign-client.ts';
import { command as capacity } from './capacity.ts';
import { command as imagesCheck } from './check-images.ts';
import { command as clientKey } from './client-key.ts';
import { type Command, defineCommand, flag } from './command.ts';
import { command as consumption } from './consumption.ts';
import { command as deploy } from './deploy.ts';
import { command as diagnose } from './diagnose.ts';
import { command as dlq } from './dlq.ts';
import { command as drDrill } from './dr-drill.ts';
import { command as logLevel } from './log-level.ts';
import { command as manageQueues } from './manage-queues.ts';
import { command as migrate } from './migrate.ts';
import { command as reconcile } from './reconcile.ts';
import { command as retention } from './retention.ts';
import { command as rollback } from './rollback.ts';
import { command as verifyDeployment } from './verify-deployment.ts';
import { command as watchRelease } from './watch-release.ts';
import { command as whereIs } from './where-is.ts';

/** That of scripts/generate-docs.ts. */
export const docs = defineCommand({
  name: 'npm run docs --',
  forContributors: true,
  summary:
    'Generates files from the code: docs/configuration.md, docs/capacity.md, docs/commands.md, docs/cost.md, docs/asyncapi.yaml, .env.example, and the rules, dashboards and pages that monitoring/generate.ts lists.',
  positionals: {},
  options: { check: flag('writes nothing, and fails if a file is outdated') },
  changes: 'those files.',
  exitStatuses: { 0: 'written, or up to date', 1: 'a file is outdated' },
});

/**
 * All that people type, in the order in which one meets it. Not here: what passes each word to another program
 * (test/run.ts to vitest, scripts/run-tool.ts to the tool that it names), and what only npm scripts and other programs call
 * (scripts/check-docs.ts, which takes no words; scripts/images, bench/peers, bench/servers).
 */
export const COMMANDS: readonly Command[] = [
  start,
  monitoring,
  demo,
  deadLetters,
  performanceTest,
  capacity,
  bootstrap,
  diff,
  deployInfra,
  clientKey,
  manageQueues,
  dlq,
  whereIs,
  reconcile,
  retention,
  assignClient,
  migrate,
  deploy,
  verifyDeployment,
  rollback,
  watchRelease,
  ack,
  consumption,
  logLevel,
  diagnose,
  drDrill,
  faults,
  mutations,
  faultsReport,
  soak,
  api,
  bench,
  imagesCheck,
  docs,
];
