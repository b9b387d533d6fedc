import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { DeploymentError, messageOf } from './errors.ts';

const run = promisify(execFile);
const MAX_OUTPUT = { maxBuffer: 256 * 1024 * 1024 };

/** An overlay as kustomize renders it. @throws {DeploymentError} MANIFEST */
export async function renderOverlay(folder: string): Promise<string> {
  const { stdout } = await run('kubectl', ['kustomize', folder], MAX_OUTPUT).catch((cause) => {
    const why = cause.stderr?.trim() || 'kubectl is not on the PATH';
    throw new DeploymentError('MANIFEST', `kubectl kustomize ${folder}: ${why}`, { cause });
  });
  return stdout;
}

/**
 * The same as it was at a commit, whatever the working tree holds.
 * @param folder in the repository of the working directory
 * @throws {DeploymentError} MANIFEST where git has no such commit, or the commit no such overlay
 */
export async function renderOverlayAt(commit: string, folder: string): Promise<string> {
  const files = await mkdtemp(path.join(tmpdir(), 'order-pipeline-overlay-'));
  try {
    const root = (await run('git', ['rev-parse', '--show-toplevel'])).stdout.trim();
    const archive = ['archive', '--format=tar', `--output=${files}/commit.tar`, `${commit}^{commit}`];
    await run('git', archive, { cwd: root });
    await mkdir(path.join(files, 'commit'));
    await run('tar', ['-xf', 'commit.tar', '-C', 'commit'], { cwd: files });
    return await renderOverlay(path.join(files, 'commit', path.relative(root, path.resolve(folder))));
  } catch (cause) {
    const said = (cause as { stderr?: string }).stderr || messageOf(cause);
    throw new DeploymentError('MANIFEST', `${folder} of ${commit} cannot be had: ${said.trim()}`, { cause });
  } finally {
    await rm(files, { recursive: true });
  }
}
