import { describe, expect, it } from 'vitest';
import { alertmanagerConfig } from './alertmanager.ts';
import { readContacts } from './contacts.ts';
import { ALERT_RULES } from './rules.ts';

const contacts = readContacts();
const config = alertmanagerConfig(contacts, {
  slack: { url: 'http://127.0.0.1:1/' },
  mail: { smarthost: '127.0.0.1:1', from: 'a@example.com' },
});
const waits = (urgency: string) =>
  config.route.routes
    .filter(({ matchers }) => matchers[0] === `urgency="${urgency}"`)
    .map(({ receiver, group_wait }) => `${receiver} ${group_wait}`);

describe('escalation', () => {
  it('tells each tier when the one before has had its time to answer', () => {
    expect(waits('critical')).toEqual([
      'devops 5s',
      'backend 5m',
      'architect 15m',
      'cto 15m',
      'vp-engineering 15m',
    ]);
    expect(waits('high')).toEqual(['devops 5s', 'backend 15m', 'engineering-manager 1h']);
    expect(waits('medium')).toEqual(['devops 5s', 'backend 1h', 'team-lead 4h']);
    expect(waits('low')).toEqual(['devops 5s', 'owner 24h']);
  });

  it('can be made shorter, for tests', () => {
    const { route } = alertmanagerConfig(contacts, { timeScale: 1 / 60 });
    expect(route.routes.slice(0, 3).map(({ group_wait }) => group_wait)).toEqual(['1s', '5s', '15s']);
  });
});

describe('inhibition', () => {
  it('names only alerts that exist', () => {
    const names = new Set(ALERT_RULES.map(({ alert }) => alert));
    const named = config.inhibit_rules
      .flatMap(({ source_matchers, target_matchers }) => [...source_matchers, ...target_matchers])
      .filter((matcher) => matcher.startsWith('alertname'))
      .flatMap((matcher) => matcher.replace(/^alertname=~?"(.*)"$/, '$1').split('|'));
    expect(named.filter((name) => !names.has(name))).toEqual([]);
    expect(named).toContain('SqsUnavailable');
  });
});

it('a contact without an address for a way gets nothing by it', () => {
  const cto = config.receivers.find(({ name }) => name === 'cto');
  expect(cto).toMatchObject({ email_configs: [{ to: 'cto@example.com', send_resolved: true }] });
  expect(cto).not.toHaveProperty('slack_configs');
});
