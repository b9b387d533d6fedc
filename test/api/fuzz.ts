import { spawn, spawnSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { type Pair, startPair } from '../support/pair.ts';

const USAGE = `usage: npm run test:api -- [--examples=100] [--seed=1]

  Runs schemathesis (https://schemathesis.readthedocs.io, from PyPI) with all its checks against what both services
  say of themselves in /openapi.json: valid and invalid requests, made from the schemas. SCHEMATHESIS names the command
  where it is not on the path; without one, it is skipped, and with REQUIRE_SCHEMATHESIS=1 that is a failure.`;

const SCHEMATHESIS = process.env['SCHEMATHESIS'] || 'schemathesis';

const CONFIG = path.join(import.meta.dirname, 'schemathesis.toml');

function parse() {
  const { values } = parseArgs({
    options: { examples: { type: 'string', default: '100' }, seed: { type: 'string', default: '1' } },
  });
  for (const value of Object.values(values))
    if (!/^[1-9]\d*$/.test(value)) throw new Error(`${value} is no whole number above 0`);
  return values;
}

/** Answers whether it found nothing. Its report goes to the terminal. */
async function fuzz(url: string, { examples, seed }: ReturnType<typeof parse>): Promise<boolean> {
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

async function main(options: ReturnType<typeof parse>): Promise<{ passed: number; failed: number }> {
  const pair: Pair = await startPair();
  try {
    let failed = 0;
    for (const url of [pair.producerUrl, pair.consumerUrl]) if (!(await fuzz(url, options))) failed++;
    return { passed: 2 - failed, failed };
  } finally {
    await pair[Symbol.asyncDispose]();
  }
}

let options: ReturnType<typeof parse>;
try {
  options = parse();
} catch (error) {
  console.error(`${error instanceof Error ? error.message : error}\n\n${USAGE}`);
  process.exit(2);
}
if (spawnSync(SCHEMATHESIS, ['--version']).status === 0) {
  const { passed, failed } = await main(options);
  console.log(`${passed} passed, ${failed} failed, 0 skipped`);
  process.exitCode = failed === 0 ? 0 : 1;
} else {
  const required = process.env['REQUIRE_SCHEMATHESIS'] === '1';
  console.log(`no schemathesis: pip install schemathesis, or SCHEMATHESIS=/path/to/it`);
  console.log(required ? '0 passed, 1 failed, 0 skipped' : '0 passed, 0 failed, 2 skipped');
  process.exitCode = required ? 1 : 0;
}
