// What a command needs before it can run. Plain JavaScript without dependencies, since it runs on a fresh machine, on any
// Node from 20 on.
import { existsSync, readFileSync, statSync, utimesSync } from 'node:fs';
import path from 'node:path';

const MIN_NODE_MAJOR = 24;
export const root = path.join(import.meta.dirname, '..');

/** `folder` has a package-lock.json: the root's, or that of `infra`, which nothing else needs. */
export function isInstalled(folder = root) {
  const lockFile = path.join(folder, 'package-lock.json');
  const installedFile = path.join(folder, 'node_modules', '.package-lock.json');
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

/** Why this Node (`version` as `node --version` prints it) cannot run the project, in a sentence. */
export function nodeProblem(version, error) {
  if (Number(/^v(\d+)\./.exec(version ?? '')?.[1]) >= MIN_NODE_MAJOR) return undefined;
  const found = version ? `found ${version}` : `node does not start${error ? `: ${error.message}` : ''}`;
  return (
    `Node ${MIN_NODE_MAJOR} or newer is needed, ${found}. The development dependency "node" brings it; its program ` +
    'is missing, for instance after an install with --ignore-scripts. Do: npm rebuild node'
  );
}
