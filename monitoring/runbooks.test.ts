import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { Command } from '../scripts/command.ts';
import { COMMANDS } from '../scripts/commands.ts';
import { ALERT_RULES } from './rules.ts';

const FOLDER = path.join(import.meta.dirname, '..', 'docs', 'runbooks');
const alerts = [...new Set(ALERT_RULES.map(({ alert }) => alert))];
const pages = globSync('*.md', { cwd: FOLDER }).filter((name) => !name.startsWith('README.'));
const read = (name: string) => readFileSync(path.join(FOLDER, name), 'utf8');

it('every alert has a runbook, in English and in Korean, and every runbook has an alert', () => {
  expect(pages.sort()).toEqual(alerts.flatMap((alert) => [`${alert}.ko.md`, `${alert}.md`]).sort());
});

describe.each(alerts)('runbook of %s', (alert) => {
  const page = read(`${alert}.md`);

  it('says how urgent it is, as the rules do', () => {
    const urgencies = new Set(
      ALERT_RULES.filter((rule) => rule.alert === alert).map(({ urgency }) => urgency),
    );
    const [, found = ''] = page.match(/, urgency (.*)\. Silence/) ?? [];
    expect(new Set(found.replaceAll('`', '').split(', '))).toEqual(urgencies);
  });

  it('has the same parts as all', () => {
    const parts = ['First five minutes', 'Diagnosis', 'When it is over', 'Whom to call'];
    expect([...page.matchAll(/^## (.*)$/gm)].map(([, title]) => title)).toEqual(parts);
  });

  it('names only commands of this repository that take these words', () => {
    for (const [, typed = ''] of page.matchAll(/`((?:scripts\/|npm run )[^`]*)`/g)) {
      const command = COMMANDS.find(({ name }) => typed === name || typed.startsWith(`${name} `));
      expect(command, typed).toBeDefined();
      if (command && typed !== command.name) expect(misunderstood(command, typed), typed).toEqual([]);
    }
  });
});

/** Words and options that the command does not have. Words in capitals stand for what the reader puts in. */
function misunderstood({ name, options, positionals }: Command, typed: string): string[] {
  const { tokens } = parseArgs({
    args: typed.slice(name.length).trim().split(' '),
    strict: false,
    tokens: true,
  });
  const slots = Object.values(positionals);
  return tokens.flatMap((token) => {
    if (token.kind === 'option') return token.name in options ? [] : [`--${token.name}`];
    if (token.kind !== 'positional' || /^[A-Z]+$/.test(token.value)) return [];
    const slot = slots.shift();
    return slot?.schema.safeParse(token.value).success ? [] : [token.value];
  });
}
