import { closeSync, openSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { countOpenFiles, OpenFilesWatch } from './open-files.ts';

const open = (count: number) => Array.from({ length: count }, () => openSync('/dev/null', 'r'));
const here = { name: 'here', pid: process.pid, isReady: async () => true };

describe.runIf(countOpenFiles(process.pid) !== undefined)('OpenFilesWatch', () => {
  test('of a process that lives on, counts what stays open, and not what comes and goes', async () => {
    const watch = new OpenFilesWatch(20);
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

  test('of processes that end, has a figure for each that lived long enough, from when it was ready', async () => {
    const watch = new OpenFilesWatch(20);
    const stop = new AbortController();
    // One process stands for several that follow each other: the kernel's count is of the same.
    const service = { name: 'here', pid: undefined as number | undefined, isReady: async () => false };
    const watched = watch.watch([service], stop.signal);
    service.pid = process.pid;
    const early = open(5);
    await sleep(150);
    service.isReady = async () => true;
    await sleep(800);
    service.pid = process.ppid;
    await sleep(150);
    service.pid = undefined;
    stop.abort();
    await watched;
    for (const file of early) closeSync(file);
    expect(watch.growths()).toEqual({ [`here (pid ${process.pid})`]: 0 });
  });
});
