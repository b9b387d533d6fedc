import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect } from 'vitest';
import { freePorts } from '../../dev/port-owner.ts';
import { ServiceProcess, type ServiceRole } from '../faults/service-process.ts';

/** What a service may have needed at most: well below the 512 MiB of its container. */
export const MAX_PEAK_BYTES = 420_000_000;

export type WatchedProcess = AsyncDisposable & {
  url: string;
  port: number;
  /** Of the first process: a service that died and was started again fails here. */
  isWell: () => void;
};

/** One service as a process with the flags of V8 that it has in its image. */
export async function startWatched(role: ServiceRole, env: NodeJS.ProcessEnv): Promise<WatchedProcess> {
  const folder = await mkdtemp(path.join(tmpdir(), 'watched-'));
  const [port = 0] = await freePorts(1);
  const notes: string[] = [];
  const service = new ServiceProcess({
    name: role,
    role,
    port,
    env: { PATH: process.env['PATH'], LIBRARY_LOG_LEVEL: 'warn', SQS_WAIT_TIME_SECONDS: '1', ...env },
    folder,
    graceMs: 40_000,
    note: (note) => notes.push(note),
  });
  service.start();
  await service.ready(AbortSignal.timeout(30_000));
  const { pid } = service;
  return {
    url: service.url,
    port,
    isWell: () => {
      expect(service.badEnds, notes.join('\n')).toEqual([]);
      expect(service.pid).toBe(pid);
      const peak = peakBytes(pid as number);
      console.log(`${role}: ${Math.round(peak / 1e6)} MB at most`);
      expect(peak).toBeLessThanOrEqual(MAX_PEAK_BYTES);
    },
    [Symbol.asyncDispose]: async () => {
      await service.kill();
      await rm(folder, { recursive: true });
    },
  };
}

/** Most of physical memory that a process has had at once (proc_pid_status(5), VmHWM), however short it was. */
export function peakBytes(pid: number): number {
  const kilobytes = /^VmHWM:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
  return Number(kilobytes) * 1024;
}
