import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { clusterAvailable } from './k8s/cluster.ts';
import { containersAvailable } from './support/containers.ts';

/** Runs vitest with the given arguments and ends with the line `N passed, N failed, N skipped`. */
const folder = mkdtempSync(path.join(tmpdir(), 'order-pipeline-tests-'));
const results = path.join(folder, 'results.json');

const engine = await containersAvailable();
if (!engine.available) console.log(`tests that need containers are skipped: ${engine.reason}`);

if (process.argv.includes('k8s')) {
  const cluster = await clusterAvailable();
  if (!cluster.available) console.log(`tests that need a cluster: ${cluster.reason}`);
}

const vitest = path.join(import.meta.dirname, '..', 'node_modules', 'vitest', 'vitest.mjs');
const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${results}`];
const run = spawnSync(process.execPath, [vitest, 'run', ...reporters, ...process.argv.slice(2)], {
  stdio: 'inherit',
});

try {
  const { numPassedTests, numFailedTests, numPendingTests, numTodoTests, testResults } = JSON.parse(
    readFileSync(results, 'utf8'),
  );
  // A file that cannot be loaded, or whose set-up fails, holds no failed test; it is a failure all the same.
  const brokenFiles = testResults.filter(isBroken).length;
  console.log(
    `${numPassedTests} passed, ${numFailedTests + brokenFiles} failed, ${numPendingTests + numTodoTests} skipped`,
  );
} catch {
  console.log('0 passed, 1 failed, 0 skipped');
}
rmSync(folder, { recursive: true, force: true });
process.exitCode = run.status ?? 1;

function isBroken(file: { status: string; assertionResults: { status: string }[] }): boolean {
  return file.status === 'failed' && !file.assertionResults.some(({ status }) => status === 'failed');
}
