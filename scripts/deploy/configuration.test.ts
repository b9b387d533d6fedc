import { execFileSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { apply, findChanges } from './configuration.ts';
import { renderOverlay, renderOverlayAt } from './overlay.ts';
import { switchTo } from './producer-blue-green.ts';
import { serving, trackOf } from './testing/staging.ts';

test('configuration, applied while the candidate has the traffic, leaves it there', async () => {
  const staging = await serving();
  const { kubectl } = staging.session;
  await switchTo(kubectl, 'candidate');
  await apply(kubectl, staging.request('v1').manifests.others);
  expect(trackOf(staging)).toBe('candidate');
});

test('configuration, that differs from what was applied last, is told', async () => {
  const staging = await serving();
  const { others } = staging.request('v2', { policy: 'closed', more: true }).manifests;
  expect(await findChanges(staging.session.kubectl, others)).toEqual([
    'NetworkPolicy order-producer',
    'NetworkPolicy one-more',
  ]);
  expect(await findChanges(staging.session.kubectl, staging.request('v1').manifests.others)).toEqual([]);
});

describe('overlay at a commit', () => {
  let folder: string;
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=a', '-c', 'user.email=a@b', ...args], {
      cwd: folder,
      encoding: 'utf8',
      stdio: 'pipe',
    }).trim();
  const write = (text: string) => writeFileSync(path.join(folder, 'overlays/x/kustomization.yaml'), text);
  const cwd = process.cwd();

  /** A repository with an overlay as it was and is, and a kubectl that renders by printing. */
  function repository(): string {
    folder = mkdtempSync(path.join(tmpdir(), 'overlay-'));
    mkdirSync(path.join(folder, 'overlays/x'), { recursive: true });
    mkdirSync(path.join(folder, 'bin'));
    writeFileSync(path.join(folder, 'bin/kubectl'), '#!/bin/sh\ncat "$2/kustomization.yaml"\n');
    chmodSync(path.join(folder, 'bin/kubectl'), 0o755);
    git('init', '-q');
    write('as it was');
    git('add', 'overlays');
    git('commit', '-qm', 'x');
    write('as it is');
    process.chdir(folder);
    vi.stubEnv('PATH', `${folder}/bin:${process.env['PATH']}`);
    return git('rev-parse', 'HEAD');
  }
  afterEach(() => {
    process.chdir(cwd);
    vi.unstubAllEnvs();
    rmSync(folder, { recursive: true });
  });

  test('is what it was then, whatever the working tree holds', async () => {
    const commit = repository();
    expect(await renderOverlayAt(commit, 'overlays/x')).toBe('as it was');
    expect(await renderOverlayAt(commit, path.join(folder, 'overlays/x'))).toBe('as it was');
    expect(await renderOverlay('overlays/x')).toBe('as it is');
  });

  test.each([
    ['of a release that is no commit', 'v1', 'overlays/x'],
    ['that the commit does not have', 'HEAD', 'overlays/y'],
  ])('%s cannot be had', async (_which, commit, overlay) => {
    repository();
    await expect(renderOverlayAt(commit, overlay)).rejects.toThrow(`${overlay} of ${commit} cannot be had: `);
  });
});
