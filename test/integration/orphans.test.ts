import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { freePorts, portOwner } from '../../dev/port-owner.ts';
import { eventually } from '../support/eventually.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

/** npm, in a process group of its own: what is left of it at the end is ended with it. */
function npm(args: string[], env: NodeJS.ProcessEnv): ChildProcess {
  const child = spawn('npm', args, {
    cwd: ROOT,
    env: { ...process.env, ...env },
    stdio: 'ignore',
    detached: true,
  });
  onTestFinished(() => {
    try {
      process.kill(-(child.pid as number), 'SIGKILL');
    } catch {
      // Nothing is left of it.
    }
  });
  return child;
}

const ready = (port: number) =>
  fetch(`http://127.0.0.1:${port}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  );

it.each(['SIGTERM', 'SIGKILL'] as const)(
  'npm run producer, when npm is ended by %s, leaves nothing behind',
  async (signal) => {
    const emulator = await startEmulator({ port: 0 });
    onTestFinished(() => emulator.stop());
    const [port = 0] = await freePorts(1);
    const child = npm(['run', 'producer'], {
      AWS_ENDPOINT_URL: emulator.endpoint,
      PRODUCER_PORT: String(port),
    });
    await eventually(async () => expect(await ready(port)).toBe(true), 30_000);
    child.kill(signal);
    await eventually(() => expect(portOwner(port)).toBeUndefined(), 15_000);
  },
);

it('npm start, when npm is ended by SIGKILL, leaves nothing behind', async () => {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'orphans-'));
  onTestFinished(() => rm(dataDir, { recursive: true, force: true }));
  const ports = await freePorts(3);
  const [EMULATOR_PORT, PRODUCER_PORT, CONSUMER_PORT] = ports.map(String);
  const child = npm(['start'], { DATA_DIR: dataDir, EMULATOR_PORT, PRODUCER_PORT, CONSUMER_PORT });
  await eventually(async () => expect(await ready(ports[2] as number)).toBe(true), 40_000);
  child.kill('SIGKILL');
  await eventually(() => expect(ports.map(portOwner)).toEqual([undefined, undefined, undefined]), 20_000);
});
