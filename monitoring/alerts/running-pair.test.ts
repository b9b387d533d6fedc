import { existsSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { eventually } from '../../test/support/eventually.ts';
import type { SlackMessage } from '../check/servers.ts';
import { findTool, ROOT } from '../check/tools.ts';
import { readContacts } from '../contacts.ts';
import { ALERT_RULES, type AlertRule } from '../rules.ts';
import { type RunningPair, startRunningPair } from './running-pair.ts';
import { findRule, SCENES } from './scenes.ts';

const prometheus = findTool('prometheus');
const alertmanager = findTool('alertmanager');
const { runbooksUrl, contacts, escalation } = readContacts();

/** Of a machine that does other things, too: what is awaited comes within seconds. */
const PATIENCE_MS = 180_000;
const SCENE_TIMEOUT_MS = 10 * PATIENCE_MS;

/** Channels of a tier that Slack reaches. */
const channels = (names: readonly string[]) => names.flatMap((name) => contacts[name]?.slack ?? []);

/** The words of a description, without its figures. */
const wordsOf = ({ description }: AlertRule) => description.split(/\{\{.*?\}\}/);

const tellsOf = (rule: AlertRule) => {
  const title = `${rule.severity.toUpperCase()}: ${rule.alert}`;
  const words = wordsOf(rule);
  return (message: SlackMessage) =>
    message.title === title && words.every((word) => message.text.includes(word));
};

describe.skipIf(!prometheus.program || !alertmanager.program)(
  `alerts of the running pair (${prometheus.reason}, ${alertmanager.reason})`,
  () => {
    let pair: RunningPair;
    beforeAll(async () => {
      pair = await startRunningPair();
    }, SCENE_TIMEOUT_MS);
    afterAll(() => pair?.[Symbol.asyncDispose](), SCENE_TIMEOUT_MS);

    const sent = (channel: string, fits: (message: SlackMessage) => boolean, since = 0) =>
      eventually(() => {
        const found = pair.slack.messages
          .slice(since)
          .find((message) => message.channel === channel && fits(message));
        if (!found)
          throw new Error(`not told ${channel}, but: ${JSON.stringify(pair.slack.messages.slice(since))}`);
        return found;
      }, PATIENCE_MS);

    it.each(SCENES)(
      '$title: told, escalated, resolved',
      { timeout: SCENE_TIMEOUT_MS },
      async ({ rules, begin }) => {
        const expected = rules.map(findRule);
        const began = pair.slack.messages.length;
        const end = await begin(pair);
        for (const rule of expected) {
          const { first, second } = escalation[rule.urgency];
          for (const channel of channels(first)) {
            const { text, titleLink } = await sent(channel, tellsOf(rule), began);
            const summaries = ALERT_RULES.filter(({ alert }) => alert === rule.alert).map(
              ({ summary }) => summary,
            );
            expect(
              summaries.filter((summary) => text.startsWith(summary)),
              text,
            ).not.toEqual([]);
            expect(titleLink).toBe(`${runbooksUrl}/${rule.alert}.md`);
            expect(text).toContain(`<${titleLink}|What to do>`);
            expect(existsSync(path.join(ROOT, 'docs/runbooks', `${rule.alert}.md`))).toBe(true);
          }
          // The next tier of the urgent ones alone: the others have hours.
          if (rule.urgency === 'critical')
            for (const channel of channels(second)) await sent(channel, tellsOf(rule), began);
        }
        const over = pair.slack.messages.length;
        await end();
        for (const { alert, urgency } of expected) {
          const tiers = urgency === 'critical' ? ['first' as const, 'second' as const] : ['first' as const];
          for (const channel of tiers.flatMap((tier) => channels(escalation[urgency][tier])))
            await sent(channel, ({ title }) => title === `Resolved: ${alert}`, over);
        }
      },
    );
  },
);
