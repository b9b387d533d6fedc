import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test, vi } from 'vitest';
import { countOpenFiles, ProcessWatch } from './process-watch.ts';

const open = (count: number) => Array.from({ length: count }, () => openSync('/dev/null', 'r'));
const here = { name: 'here', pid: process.pid, isReady: async () => true };

describe.runIf(countOpenFiles(process.pid) !== undefined)('ProcessWatch', () => {
  test('of a process that lives on, counts what stays open, and not what comes and goes', async () => {
    const watch = new ProcessWatch(20);
    const stop = new AbortController();
    const watched = watch.watch([here], stop.signal);
    await sleep(50);
    const kept = open(7);
    await sleep(300);
    const passing = open(9);
    await sleep(150);
    for (const file of passing) closeSync(file);
    await sleep(300);
    stop.abort();
    await watched;
    for (const file of kept) closeSync(file);
    expect(watch.growths()).toEqual({ [`here (pid ${process.pid})`]: 7 });
  });

  test('of a process that lived on, counts from when it was ready; one that ended under load tells nothing', async () => {
    const watch = new ProcessWatch(20);
    const stop = new AbortController();
    const service = { name: 'one', pid: process.ppid as number | undefined, isReady: async () => true };
    // One process stands for the next: the kernel's count is of the same.
    const next = { name: 'next', pid: undefined as number | undefined, isReady: async () => false };
    const watched = watch.watch([service, next], stop.signal);
    next.pid = process.pid;
    const early = open(5);
    await sleep(500);
    service.pid = undefined;
    next.isReady = async () => true;
    await sleep(800);
    stop.abort();
    await watched;
    for (const file of early) closeSync(file);
    expect(watch.growths()).toEqual({ [`next (pid ${process.pid})`]: 0 });
  });

  test('of a process, knows the most memory that it had, also when that is gone', async () => {
    const watch = new ProcessWatch(20);
    const stop = new AbortController();
    const child = spawn(process.execPath, ['-e', 'Buffer.alloc(3e8, 1); process.stdin.resume()']);
    await once(child, 'spawn');
    const name = `child (pid ${child.pid})`;
    const watched = watch.watch([{ name: 'child', pid: child.pid, isReady: async () => false }], stop.signal);
    await vi.waitUntil(() => (watch.peaks()[name] ?? 0) > 3e8, { timeout: 30_000 });
    child.kill('SIGKILL');
    await once(child, 'exit');
    stop.abort();
    await watched;
    expect(watch.peaks()[name]).toBeLessThan(6e8);
  });
});
