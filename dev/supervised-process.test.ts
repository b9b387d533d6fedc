import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished, vi } from 'vitest';
import { type ProcessEvent, SupervisedProcess } from './supervised-process.ts';

it('SupervisedProcess, of a log that grows, moves it aside while the process runs', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'supervised-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const script = path.join(folder, 'talks.mjs');
  writeFileSync(script, "setInterval(() => process.stdout.write('{}' + ' '.repeat(500) + '\\n'), 10);");
  const logFile = path.join(folder, 'talks.log');
  const events: ProcessEvent[] = [];
  const supervised = new SupervisedProcess({
    name: 'talks',
    flags: [],
    script,
    workingDirectory: folder,
    env: process.env,
    logFile,
    maxLogBytes: 20_000,
    graceMs: 5_000,
    onEvent: (event) => events.push(event),
  });
  supervised.start();
  const moved = await vi.waitFor(() => readFileSync(`${logFile}.1`, 'utf8'), 30_000);
  expect(moved.length).toBeGreaterThan(20_000);
  // It goes on at the beginning, not behind a hole.
  await vi.waitFor(() => expect(statSync(logFile).size).toBeGreaterThan(0), 30_000);
  expect(readFileSync(logFile, 'utf8')).toMatch(/^\{\}/);
  await supervised.stop();
  expect(events).toEqual([]);
});
