// Makes the project ready to run: installs what is missing and checks Node. `prepare.mjs infra` also installs the packages
// of that folder, which has a lock file of its own.
import { spawnSync } from 'node:child_process';
import path from 'node:path';
import { isInstalled, nodeProblem, root } from './installation.mjs';

const binaries = path.join(root, 'node_modules', '.bin');

for (const folder of [root, ...process.argv.slice(2).map((name) => path.join(root, name))])
  if (!isInstalled(folder)) install(folder);
checkNode();

function install(folder) {
  // Standard output is for what a command was asked for.
  console.error(
    `installing dependencies${folder === root ? '' : ` of ${path.relative(root, folder)}`} (once, about a minute)…`,
  );
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  // The npm that runs this script; the one on the path where there is none.
  const npm = process.env.npm_execpath;
  const run = npm?.endsWith('.js') ? [process.execPath, [npm, ...args]] : ['npm', args];
  const { status, error, stdout } = spawnSync(run[0], run[1], {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status === 0) return;
  if (stdout) process.stderr.write(stdout);
  fail(`npm ci failed${error ? `: ${error.message}` : ` with status ${status}`}`);
}

function checkNode() {
  const env = { ...process.env, PATH: `${binaries}${path.delimiter}${process.env.PATH ?? ''}` };
  const { stdout, error } = spawnSync('node', ['--version'], { env, encoding: 'utf8' });
  const problem = nodeProblem(stdout?.trim(), error);
  if (problem) fail(problem);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
