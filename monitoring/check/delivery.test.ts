import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../../test/support/eventually.ts';
import { alertmanagerConfig } from '../alertmanager.ts';
import { readContacts } from '../contacts.ts';
import { type MonitoringServer, type Slack, startAlertmanager, startSlack } from './servers.ts';
import { findTool } from './tools.ts';

const alertmanager = findTool('alertmanager');

describe.skipIf(!alertmanager.program)(`messages of a real Alertmanager (${alertmanager.reason})`, () => {
  let slack: Slack;
  let server: MonitoringServer;

  beforeAll(async () => {
    slack = await startSlack();
    // A minute of the escalation is a second.
    const delivery = { slack: { url: slack.url }, timeScale: 1 / 60 };
    server = await startAlertmanager(alertmanagerConfig(readContacts(), delivery));
  });
  afterAll(async () => {
    await server?.[Symbol.asyncDispose]();
    await slack?.[Symbol.asyncDispose]();
  });

  it('reach Slack after it answered 500 and 429, are told to the next tier, and resolve', async () => {
    slack.answers.push(500, 429);
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
      fetch(`${server.url}/api/v2/alerts`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify([{ ...alert, endsAt: new Date(endsAt).toISOString() }]),
      });
    expect((await tell(Date.now() + 600_000)).ok).toBe(true);

    const to = (channel: string, state: string) =>
      slack.messages.filter(
        (message) => message.channel === channel && message.title.startsWith(`${state}: NothingConsumed`),
      );
    await eventually(() => {
      expect(to('#devops-alerts', 'CRITICAL')).not.toEqual([]);
      expect(to('#backend-support', 'CRITICAL')).not.toEqual([]);
    }, 60_000);
    expect(slack.refused).toEqual([500, 429]);
    expect(to('#devops-alerts', 'CRITICAL')[0]?.text).toContain('120 orders wait.');

    expect((await tell(Date.now() - 1)).ok).toBe(true);
    await eventually(() => {
      expect(to('#devops-alerts', 'Resolved')).not.toEqual([]);
      expect(to('#backend-support', 'Resolved')).not.toEqual([]);
    }, 60_000);
  });

  it('say what it means for customers also where two alerts of one message mean something else', async () => {
    const labels = {
      alertname: 'SqsUnavailable',
      severity: 'critical',
      urgency: 'critical',
      service: 'order-producer',
    };
    const alerts = ['Customers cannot place orders.', 'Orders wait.'].map((summary, index) => ({
      labels: { ...labels, rule: String(index) },
      annotations: { summary, description: `figure ${index}` },
    }));
    await fetch(`${server.url}/api/v2/alerts`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(alerts),
    });
    const { text } = await eventually(() => {
      const message = slack.messages.find(({ title }) => title === 'CRITICAL: SqsUnavailable');
      if (!message) throw new Error('no message');
      return message;
    }, 60_000);
    expect(text).toMatch(/^(Customers cannot place orders|Orders wait)\.\n/);
    expect(text).toContain('figure 0');
    expect(text).toContain('figure 1');
  });
});
