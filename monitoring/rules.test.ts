import { expect, it } from 'vitest';
import { ALERT_RULES } from './rules.ts';

// With the same labels they would be one alert to Alertmanager: the end of one would be told as the end of both.
it('rules of the same alert and urgency have a label that tells them apart', () => {
  const groups = Object.values(Object.groupBy(ALERT_RULES, ({ alert, urgency }) => `${alert} ${urgency}`));
  const alike = groups.filter((rules = []) => {
    const labels = rules.map((rule) => rule.labels ?? {});
    const tells = (name: string) => new Set(labels.map((each) => each[name] ?? '')).size === rules.length;
    const inAll = Object.keys(labels[0] ?? {}).filter((name) => labels.every((each) => name in each));
    return rules.length > 1 && !inAll.some(tells);
  });
  expect(alike.map(([rule] = []) => rule?.alert)).toEqual([]);
});
