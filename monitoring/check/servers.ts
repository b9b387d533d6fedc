import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { expect } from 'vitest';
import { stringify } from 'yaml';
import { freePorts } from '../../dev/port-owner.ts';
import { eventually } from '../../test/support/eventually.ts';
import type { alertmanagerConfig } from '../alertmanager.ts';
import type { prometheusConfig } from '../prometheus.ts';
import { findTool } from './tools.ts';

const READY_WITHIN_MS = 120_000;

export type MonitoringServer = AsyncDisposable & { url: string };

/** A real Prometheus on a free port. @throws when it is not installed, or ends before it is ready */
export const startPrometheus = (config: ReturnType<typeof prometheusConfig>): Promise<MonitoringServer> =>
  start('prometheus', config, (folder) => [`--storage.tsdb.path=${folder}`]);

/** What a Prometheus answers to a query. @throws what it says of a query that it does not understand */
export async function ask(url: string, query: string): Promise<unknown[]> {
  const answer = await fetch(`${url}/api/v1/query`, { method: 'POST', body: new URLSearchParams({ query }) });
  const { status, error, data } = (await answer.json()) as {
    status: string;
    error?: string;
    data?: { result: unknown[] };
  };
  if (status !== 'success' || !data) throw new Error(`${query}: ${error}`);
  return data.result;
}

/** A real Alertmanager on a free port. @throws when it is not installed, or ends before it is ready */
export const startAlertmanager = (config: ReturnType<typeof alertmanagerConfig>): Promise<MonitoringServer> =>
  // Without an address for a cluster: it would listen on all of them.
  start('alertmanager', config, (folder) => [`--storage.path=${folder}`, '--cluster.listen-address=']);

async function start(
  name: 'prometheus' | 'alertmanager',
  config: unknown,
  args: (folder: string) => string[],
): Promise<MonitoringServer> {
  const { program, reason } = findTool(name);
  if (!program) throw new Error(reason);
  const folder = await mkdtemp(path.join(tmpdir(), `order-${name}-`));
  const file = path.join(folder, `${name}.yml`);
  await writeFile(file, stringify(config));
  const [port = 0] = await freePorts(1);
  const url = `http://127.0.0.1:${port}`;
  const child = spawn(
    program,
    [`--config.file=${file}`, ...args(path.join(folder, 'data')), `--web.listen-address=127.0.0.1:${port}`],
    { stdio: ['ignore', 'ignore', 'pipe'] },
  );
  const output = text(child.stderr);
  const ended = once(child, 'exit');
  const stop = async () => {
    child.kill('SIGTERM');
    await ended;
    await rm(folder, { recursive: true });
  };
  const isReady = async () => expect((await fetch(`${url}/-/ready`)).ok).toBe(true);
  const failed = ended.then(async () => {
    throw new Error(`${name} ended before it was ready: ${await output}`);
  });
  try {
    await Promise.race([eventually(isReady, READY_WITHIN_MS), failed]);
  } catch (error) {
    await stop();
    throw error;
  }
  failed.catch(() => {});
  return { url, [Symbol.asyncDispose]: stop };
}

/** What Alertmanager posts to Slack: https://docs.slack.dev/legacy/legacy-messaging/legacy-secondary-message-attachments */
export type SlackMessage = { channel: string; title: string; titleLink: string; text: string };

export type Slack = AsyncDisposable & {
  url: string;
  /** Taken, in their order. */
  messages: readonly SlackMessage[];
  /** What it answers next; 200 when all are used. */
  answers: number[];
  /** Statuses of the messages that it did not take. */
  refused: readonly number[];
};

/** Stands in for Slack's incoming webhook. */
export async function startSlack(): Promise<Slack> {
  const messages: SlackMessage[] = [];
  const answers: number[] = [];
  const refused: number[] = [];
  const server = createServer(async (request, response) => {
    const { channel, attachments } = JSON.parse(await text(request));
    const [{ title, title_link: titleLink, text: body }] = attachments;
    const status = answers.shift() ?? 200;
    if (status === 200) messages.push({ channel, title, titleLink, text: body });
    else refused.push(status);
    response.writeHead(status).end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    messages,
    answers,
    refused,
    [Symbol.asyncDispose]: async () => {
      server.close();
      server.closeAllConnections();
    },
  };
}
