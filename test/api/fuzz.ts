import { spawn, spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { defineCommand, runCommand, type ValuesOf, wholeNumber } from '../../scripts/command.ts';
import { type Pair, startPair } from '../support/pair.ts';

export const command = defineCommand({
  name: 'npm run test:api --',
  forContributors: true,
  summary:
    'Runs schemathesis (https://schemathesis.readthedocs.io, from PyPI) with all its checks against both services: valid and invalid requests, generated from the schemas in /openapi.json. It is skipped if schemathesis is not installed.',
  positionals: {},
  options: {
    examples: {
      takes: 'N',
      description: 'maximum number of requests per operation and kind',
      schema: wholeNumber(1).default(100),
    },
    seed: { takes: 'S', description: 'seed of the requests', schema: wholeNumber(1).default(1) },
  },
  changes: 'nothing.',
  needs:
    'SCHEMATHESIS names the command if it is not on the path. With REQUIRE_SCHEMATHESIS=1, a missing one is a failure.',
  exitStatuses: {
    0: 'no failures, or skipped',
    1: 'failures',
  },
});

type Options = ValuesOf<typeof command>;

const SCHEMATHESIS = process.env['SCHEMATHESIS'] || 'schemathesis';

const CONFIG = path.join(import.meta.dirname, 'schemathesis.toml');

/** Answers whether it found nothing. Its report goes to the terminal. */
async function fuzz(url: string, { examples, seed }: Options): Promise<boolean> {
  const options = [
    `--config-file=${CONFIG}`,
    'run',
    `${url}/openapi.json`,
    '--checks=all',
    `--max-examples=${examples}`,
    `--seed=${seed}`,
    '--generation-database=none',
  ];
  const tool = spawn(SCHEMATHESIS, options, {
    // It keeps notes of its own where it is started.
    cwd: tmpdir(),
    stdio: ['ignore', 'inherit', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    tool.once('error', reject);
    tool.once('exit', (status) => resolve(status === 0));
  });
}

async function fuzzBoth(options: Options): Promise<{ passed: number; failed: number }> {
  const pair: Pair = await startPair();
  try {
    let failed = 0;
    for (const url of [pair.producerUrl, pair.consumerUrl]) if (!(await fuzz(url, options))) failed++;
    return { passed: 2 - failed, failed };
  } finally {
    await pair[Symbol.asyncDispose]();
  }
}

if (import.meta.main) await runCommand(command, main);

async function main(options: Options): Promise<number> {
  if (spawnSync(SCHEMATHESIS, ['--version']).status === 0) {
    const { passed, failed } = await fuzzBoth(options);
    console.log(`${passed} passed, ${failed} failed, 0 skipped`);
    return failed === 0 ? 0 : 1;
  }
  const required = process.env['REQUIRE_SCHEMATHESIS'] === '1';
  console.log(`no schemathesis: pip install schemathesis, or SCHEMATHESIS=/path/to/it`);
  console.log(required ? '0 passed, 1 failed, 0 skipped' : '0 passed, 0 failed, 2 skipped');
  return required ? 1 : 0;
}
