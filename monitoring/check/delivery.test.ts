import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { stringify } from 'yaml';
import { freePorts } from '../../dev/port-owner.ts';
import { eventually } from '../../test/support/eventually.ts';
import { alertmanagerConfig } from '../alertmanager.ts';
import { readContacts } from '../contacts.ts';
import { findTool } from './tools.ts';

const alertmanager = findTool('alertmanager');

describe.skipIf(!alertmanager.program)(`messages of a real Alertmanager (${alertmanager.reason})`, () => {
  /** What Slack answers next; 200 when all are used. */
  const answers: number[] = [];
  const refused: number[] = [];
  const messages: string[] = [];
  let slack: Server;
  let server: ChildProcess;
  let folder: string;
  let url: string;

  beforeAll(async () => {
    slack = createServer(async (request, response) => {
      const body = await text(request);
      const status = answers.shift() ?? 200;
      if (status === 200) messages.push(body);
      else refused.push(status);
      response.writeHead(status).end();
    });
    slack.listen(0, '127.0.0.1');
    await once(slack, 'listening');
    folder = await mkdtemp(path.join(tmpdir(), 'order-delivery-'));
    const config = path.join(folder, 'alertmanager.yml');
    const slackUrl = `http://127.0.0.1:${(slack.address() as AddressInfo).port}/`;
    // A minute of the escalation is a second.
    const delivery = { slack: { url: slackUrl }, timeScale: 1 / 60 };
    await writeFile(config, stringify(alertmanagerConfig(readContacts(), delivery)));
    const [port = 0] = await freePorts(1);
    url = `http://127.0.0.1:${port}`;
    server = spawn(
      alertmanager.program ?? '',
      [
        `--config.file=${config}`,
        `--storage.path=${folder}`,
        `--web.listen-address=127.0.0.1:${port}`,
        '--cluster.listen-address=',
      ],
      { stdio: 'ignore' },
    );
    await eventually(async () => expect((await fetch(`${url}/-/ready`)).ok).toBe(true), 60_000);
  });
  afterAll(async () => {
    if (server?.exitCode === null) {
      server.kill('SIGTERM');
      await once(server, 'exit');
    }
    slack?.close();
    await rm(folder, { recursive: true });
  });

  it('reach Slack after it answered 500 and 429, are told to the next tier, and resolve', async () => {
    answers.push(500, 429);
    const alert = {
      labels: {
        alertname: 'NothingConsumed',
        severity: 'critical',
        urgency: 'critical',
        namespace: 'orders',
      },
      annotations: { summary: 'Orders wait.', description: '120 orders wait.' },
    };
    const tell = (endsAt: number) =>
      fetch(`${url}/api/v2/alerts`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify([{ ...alert, endsAt: new Date(endsAt).toISOString() }]),
      });
    expect((await tell(Date.now() + 600_000)).ok).toBe(true);

    const to = (channel: string, state: string) =>
      messages.filter(
        (message) => message.includes(channel) && message.includes(`${state}: NothingConsumed`),
      );
    await eventually(() => {
      expect(to('#devops-alerts', 'CRITICAL')).not.toEqual([]);
      expect(to('#backend-support', 'CRITICAL')).not.toEqual([]);
    }, 60_000);
    expect(refused).toEqual([500, 429]);
    expect(to('#devops-alerts', 'CRITICAL')[0]).toContain('120 orders wait.');

    expect((await tell(Date.now() - 1)).ok).toBe(true);
    await eventually(() => {
      expect(to('#devops-alerts', 'Resolved')).not.toEqual([]);
      expect(to('#backend-support', 'Resolved')).not.toEqual([]);
    }, 60_000);
  });
});
