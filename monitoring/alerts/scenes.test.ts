import { expect, it } from 'vitest';
import { readContacts } from '../contacts.ts';
import { ruleFile } from '../prometheus.ts';
import { ALERT_RULES } from '../rules.ts';
import { LEFT_OUT, ruleName, SCENES } from './scenes.ts';
import { shortened } from './shortened.ts';

const driven = SCENES.flatMap(({ rules }) => rules);

it('each rule is driven by a scene, or listed with the reason why not', () => {
  const undecided = ALERT_RULES.filter(
    (rule) => !driven.includes(ruleName(rule)) && !(ruleName(rule) in LEFT_OUT) && !(rule.alert in LEFT_OUT),
  );
  expect(undecided.map(ruleName)).toEqual([]);
});

it('scenes and list name only rules that exist, each once', () => {
  const known = new Set(ALERT_RULES.map(ruleName));
  expect(driven.filter((name) => !known.has(name))).toEqual([]);
  const leftOut = ALERT_RULES.filter((rule) => !driven.includes(ruleName(rule)));
  const names = new Set(leftOut.flatMap((rule) => [ruleName(rule), rule.alert]));
  expect(Object.keys(LEFT_OUT).filter((name) => !names.has(name))).toEqual([]);
});

it('shortened rules have shorter windows and waits, and the same names and thresholds', () => {
  const rules = ruleFile(readContacts());
  const short = shortened(rules, { minuteSeconds: 3, shortestWindowSeconds: 10, evaluateSeconds: 2 });
  const find = ({ groups }: typeof rules, alert: string) =>
    groups.flatMap(({ rules }) => rules).find((rule) => 'alert' in rule && rule.alert === alert);
  expect(find(short, 'NothingConsumed')).toMatchObject({ for: '6s' });
  expect(find(short, 'NothingConsumed')?.expr).toBe(
    find(rules, 'NothingConsumed')?.expr.replace('[30s]', '[10s]'),
  );
  expect(find(short, 'DeadLettersExpire')?.expr).toContain('offset 30240s > 0');
  expect(find(short, 'DeadLetters')).toMatchObject({ for: '6s', keep_firing_for: '6s' });
  expect(short.groups.map(({ rules }) => rules.length)).toEqual(
    rules.groups.map(({ rules }) => rules.length),
  );
});
