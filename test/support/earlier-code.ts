import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);
const ROOT = path.join(import.meta.dirname, '..', '..');
const WORKSPACES = ['shared', 'producer', 'consumer'];
const SOURCES = WORKSPACES.map((name) => `${name}/src`);

export type EarlierCode = { commit: string; name: string };

/**
 * Code of this repository that was before: the newest release by tag; without tags what the services were one change
 * ago, and as long ago as they needed no other packages than today, since nothing is installed for it.
 * @param root of the repository
 */
export function earlierCode(root = ROOT): { found: EarlierCode[]; reason: string } {
  const git = gitIn(root);
  try {
    if (git('rev-parse', '--is-shallow-repository').trim() === 'true')
      return { found: [], reason: 'skipped: the clone is shallow, and has no earlier code' };
    const now = new Set(packages(readFileSync(path.join(root, 'package-lock.json'), 'utf8')));
    const runs = (commit: string) =>
      packages(git('show', `${commit}:package-lock.json`)).every((each) => now.has(each));
    const named = git('tag', '--merged', 'HEAD', '--no-contains', 'HEAD', '--sort=-creatordate');
    const release = named.split('\n').find((tag) => tag && runs(tag));
    if (release) return { found: [{ commit: release, name: release }], reason: 'by tag' };
    // The newest of them is today's code, or what uncommitted changes are made on.
    const [, ...before] = git('log', '--format=%H', '--', ...SOURCES)
      .split('\n')
      .filter(Boolean);
    const [last, ...older] = before.filter(runs);
    if (!last) return { found: [], reason: 'skipped: no earlier code needs the packages that are installed' };
    const commits = [last, older.at(-1)].filter((commit) => commit !== undefined);
    const describe = (commit: string) =>
      git('log', '-1', '--date=short', '--format=%h of %ad', commit).trim();
    return { found: commits.map((commit) => ({ commit, name: describe(commit) })), reason: 'by commit' };
  } catch (error) {
    const line = String((error as { stderr?: unknown }).stderr || error).split('\n')[0];
    return { found: [], reason: `skipped: git has no earlier code (${line})` };
  }
}

/** The services of that commit in a folder of their own, with the packages that are installed here. */
export async function checkOut({ commit }: EarlierCode): Promise<{ folder: string } & AsyncDisposable> {
  const folder = mkdtempSync(path.join(tmpdir(), 'earlier-code-'));
  const archive = path.join(folder, 'archive.tar');
  await run('git', ['archive', '-o', archive, commit, 'package.json', ...WORKSPACES], { cwd: ROOT });
  await run('tar', ['-xf', archive, '-C', folder]);
  const installed = path.join(ROOT, 'node_modules');
  mkdirSync(path.join(folder, 'node_modules', '@orders'), { recursive: true });
  for (const name of readdirSync(installed).filter((name) => name !== '@orders' && !name.startsWith('.')))
    symlinkSync(path.join(installed, name), path.join(folder, 'node_modules', name));
  for (const workspace of WORKSPACES) {
    symlinkSync(path.join(folder, workspace), path.join(folder, 'node_modules', '@orders', workspace));
    const own = path.join(ROOT, workspace, 'node_modules');
    if (existsSync(own)) symlinkSync(own, path.join(folder, workspace, 'node_modules'));
  }
  return {
    folder,
    [Symbol.asyncDispose]: async () => rmSync(folder, { recursive: true }),
  };
}

const gitIn =
  (cwd: string) =>
  (...args: string[]) =>
    execFileSync('git', args, {
      cwd,
      encoding: 'utf8',
      maxBuffer: 64 * 1024 * 1024,
      stdio: ['ignore', 'pipe', 'pipe'],
    });

type Locked = { version?: string; integrity?: string; dev?: boolean; optional?: boolean; link?: boolean };

/** What a lock file says of each package that the services need, in a form to compare. */
function packages(lockFile: string): string[] {
  const { packages } = JSON.parse(lockFile) as { packages: Record<string, Locked> };
  return Object.entries(packages)
    .filter(
      ([place, { dev, optional, link }]) => place.includes('node_modules/') && !dev && !optional && !link,
    )
    .map(([place, { version, integrity }]) => `${place} ${version} ${integrity}`);
}
