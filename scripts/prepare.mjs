// Makes the project ready to run, before npm's own scripts: installs what is missing and checks Node. Plain
// JavaScript without dependencies, since it runs on a fresh machine, on any Node from 20 on.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync, utimesSync } from 'node:fs';
import path from 'node:path';

const MIN_NODE_MAJOR = 24;
const root = path.join(import.meta.dirname, '..');
const lockFile = path.join(root, 'package-lock.json');
const installedFile = path.join(root, 'node_modules', '.package-lock.json');
const binaries = path.join(root, 'node_modules', '.bin');

if (!isInstalled()) install();
checkNode();

function isInstalled() {
  if (!existsSync(installedFile)) return false;
  if (statSync(installedFile).mtimeMs >= statSync(lockFile).mtimeMs) return true;
  // A checkout or another npm command makes the lock file younger without a change that matters.
  if (!holdsAll(JSON.parse(readFileSync(lockFile, 'utf8')), JSON.parse(readFileSync(installedFile, 'utf8'))))
    return false;
  const now = new Date();
  utimesSync(installedFile, now, now);
  return true;
}

/** Whether every package of the lock file is installed as it says; optional ones are for other platforms. */
function holdsAll(lock, installed) {
  return Object.entries(lock.packages).every(([place, { version, integrity, optional, peer }]) => {
    const found = installed.packages[place];
    if (!place.includes('node_modules/')) return true;
    return found
      ? found.version === version && found.integrity === integrity
      : optional === true || peer === true;
  });
}

function install() {
  // Standard output is for what a command was asked for.
  console.error('installing dependencies (once, about a minute)…');
  const args = ['ci', '--no-audit', '--no-fund', '--loglevel=error'];
  // The npm that runs this script; the one on the path where there is none.
  const npm = process.env.npm_execpath;
  const run = npm?.endsWith('.js') ? [process.execPath, [npm, ...args]] : ['npm', args];
  const { status, error, stdout } = spawnSync(run[0], run[1], {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  if (status === 0) return;
  if (stdout) process.stderr.write(stdout);
  fail(`npm ci failed${error ? `: ${error.message}` : ` with status ${status}`}`);
}

function checkNode() {
  const env = { ...process.env, PATH: `${binaries}${path.delimiter}${process.env.PATH ?? ''}` };
  const { stdout, error } = spawnSync('node', ['--version'], { env, encoding: 'utf8' });
  const version = stdout?.trim();
  if (Number(/^v(\d+)\./.exec(version ?? '')?.[1]) >= MIN_NODE_MAJOR) return;
  const found = version ? `found ${version}` : `node does not start${error ? `: ${error.message}` : ''}`;
  fail(
    `Node ${MIN_NODE_MAJOR} or newer is needed, ${found}. The development dependency "node" brings it; its program ` +
      'is missing, for instance after an install with --ignore-scripts. Do: npm rebuild node',
  );
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
