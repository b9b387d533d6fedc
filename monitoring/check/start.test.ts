import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { freePorts } from '../../dev/port-owner.ts';
import { eventually } from '../../test/support/eventually.ts';
import { findTool, ROOT } from './tools.ts';

const prometheus = findTool('prometheus');
const alertmanager = findTool('alertmanager');
let dataDir: string;
let child: ChildProcess | undefined;

beforeEach(async () => {
  dataDir = await mkdtemp(path.join(tmpdir(), 'order-monitoring-'));
});
afterEach(async () => {
  if (child?.exitCode === null) {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
  await rm(dataDir, { recursive: true });
});

const start = (env: NodeJS.ProcessEnv) =>
  spawn(process.execPath, [path.join(ROOT, 'monitoring/start.ts')], {
    env: { ...process.env, DATA_DIR: dataDir, ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });

describe.skipIf(!prometheus.program || !alertmanager.program)(
  `npm run monitoring (${prometheus.reason}, ${alertmanager.reason})`,
  () => {
    it('runs Prometheus with the rules and tells it the Alertmanager, until it is stopped', async () => {
      const [prometheusPort = 0, alertmanagerPort = 0, nobody = 0] = await freePorts(3);
      child = start({
        PROMETHEUS_PORT: `${prometheusPort}`,
        ALERTMANAGER_PORT: `${alertmanagerPort}`,
        PRODUCER_PORT: `${nobody}`,
        CONSUMER_PORT: `${nobody}`,
      });
      const api = `http://127.0.0.1:${prometheusPort}/api/v1`;
      const ask = async (what: string) => JSON.stringify(await (await fetch(`${api}/${what}`)).json());
      await eventually(
        async () => expect(await ask('alertmanagers')).toContain(`127.0.0.1:${alertmanagerPort}`),
        90_000,
      );
      expect(await ask('rules')).toContain('NothingConsumed');
      child.kill('SIGTERM');
      expect(await once(child, 'exit')).toEqual([0, null]);
      await expect(fetch(api)).rejects.toThrow();
    });
  },
);

it('without the programs, says what is missing and how to get it', async () => {
  child = start({ PATH: '/nowhere', REQUIRE_MONITORING: '' });
  const [output, errors] = await Promise.all([
    text(child.stdout as NodeJS.ReadableStream),
    text(child.stderr as NodeJS.ReadableStream),
    once(child, 'exit'),
  ]);
  expect(output).toContain('apt-get install prometheus prometheus-alertmanager');
  expect(errors).toContain('neither Prometheus nor Alertmanager is installed');
  expect(child.exitCode).toBe(1);
});
