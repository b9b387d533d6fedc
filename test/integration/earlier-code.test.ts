import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { earlierCode } from '../support/earlier-code.ts';

describe('earlier code of a repository', () => {
  let root: string;
  let commits = 0;
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=test', '-c', 'user.email=test@example.com', ...args], {
      cwd: root,
      encoding: 'utf8',
      // Releases are told apart by their second.
      env: { ...process.env, GIT_COMMITTER_DATE: `${1_700_000_000 + commits} +0000` },
    }).trim();
  const commit = (service: string, version: string) => {
    const lock = { packages: { '': {}, 'node_modules/pg': { version } } };
    writeFileSync(path.join(root, 'package-lock.json'), JSON.stringify(lock));
    writeFileSync(path.join(root, 'producer', 'src', 'main.ts'), service);
    commits++;
    git('add', '.');
    git('commit', '--quiet', '--message=a change');
    return git('rev-parse', 'HEAD');
  };

  beforeEach(() => {
    root = mkdtempSync(path.join(tmpdir(), 'earlier-code-test-'));
    mkdirSync(path.join(root, 'producer', 'src'), { recursive: true });
    git('init', '--quiet');
  });
  afterEach(() => rmSync(root, { recursive: true }));

  test('is that of one change ago, and the oldest with the same packages', () => {
    commit('1', '1.0.0');
    const oldest = commit('2', '2.0.0');
    commit('3', '2.0.0');
    const last = commit('4', '2.0.0');
    commit('5', '2.0.0');
    expect(earlierCode(root).found.map(({ commit }) => commit)).toEqual([last, oldest]);
  });

  test('is the newest release, where there is one', () => {
    for (const version of ['1', '2']) {
      commit(version, '1.0.0');
      git('tag', `v${version}`);
    }
    commit('3', '1.0.0');
    expect(earlierCode(root).found).toEqual([{ commit: 'v2', name: 'v2' }]);
  });

  test('is none where all of it needs other packages, or the clone is shallow, and the reason is told', () => {
    commit('1', '1.0.0');
    commit('2', '2.0.0');
    expect(earlierCode(root)).toEqual({
      found: [],
      reason: 'skipped: no earlier code needs the packages that are installed',
    });
    commit('3', '2.0.0');
    expect(earlierCode(root).found).toHaveLength(1);
    git('clone', '--quiet', '--depth=1', `file://${root}`, 'shallow');
    expect(earlierCode(path.join(root, 'shallow')).reason).toMatch(/shallow/);
  });
});

const ROOT = path.join(import.meta.dirname, '..', '..');
test.skipIf(!existsSync(path.join(ROOT, '.git')))('git answers what is asked of this repository', () => {
  expect(earlierCode().reason).not.toMatch(/git has no earlier code/);
});
