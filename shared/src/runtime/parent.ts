import { execFileSync } from 'node:child_process';

const LOOK_EVERY_MS = 500;

/**
 * Calls `onGone` once when the npm that started this process is gone. A killed npm passes no signal on, and the shell
 * between npm and the process may outlive npm too. Not watched: a process not started by npm, which may outlive its
 * parent (nohup, setsid), and one with an IPC channel, whose supervisor tells it.
 */
export function watchParent(
  process: Pick<NodeJS.Process, 'ppid' | 'env' | 'connected' | 'kill'>,
  onGone: () => void,
): void {
  if (!process.env['npm_lifecycle_event'] || process.connected) return;
  const parent = process.ppid;
  const npm = parentOf(parent);
  const timer = setInterval(() => {
    if (process.ppid === parent && (npm === undefined || isAlive(process, npm))) return;
    clearInterval(timer);
    onGone();
  }, LOOK_EVERY_MS);
  timer.unref();
}

function parentOf(pid: number): number | undefined {
  try {
    const parent = Number(execFileSync('ps', ['-o', 'ppid=', '-p', String(pid)], { encoding: 'utf8' }));
    return parent > 1 ? parent : undefined;
  } catch {
    return undefined;
  }
}

function isAlive(process: Pick<NodeJS.Process, 'kill'>, pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
