import { describe, expect, it } from 'vitest';
import { command as faults } from '../test/faults/campaign.ts';
import { command as mutations } from '../test/faults/mutations.ts';
import { type Command, parseCommand, UsageError, usage } from './command.ts';
import { COMMANDS } from './commands.ts';
import { commandsPage } from './commands-page.ts';
import { command as dlq } from './dlq.ts';
import { command as manageQueues } from './manage-queues.ts';
import { command as watchRelease } from './watch-release.ts';

/** Words that are right, for commands that need some. */
const RIGHT: Record<string, string[]> = {
  'scripts/manage-queues.sh': ['delete', 'dev'],
  'scripts/dlq.sh': ['redrive', 'dev'],
  'scripts/reconcile.sh': ['dev', 'accepted.ndjson'],
  'scripts/client-key.sh': ['web-shop'],
  'scripts/retention.sh': ['--keep-days=400', '--archive=old.gz'],
  'npm run assign-client --': ['web-shop'],
  'npm run capacity --': ['--orders-per-second=5000'],
  'npm run where-is --': ['019a0000-0000-7000-8000-000000000001', 'dev'],
  'scripts/ack.sh': ['production', 'orders-at-risk'],
  'scripts/consumption.sh': ['pause', 'dev'],
  'scripts/log-level.sh': ['order-consumer', 'dev'],
  'scripts/diagnose.sh': ['dev'],
  'npm run infra:bootstrap --': ['staging'],
  'npm run infra:diff --': ['staging'],
  'npm run infra:deploy --': ['staging'],
  'scripts/deploy.sh': ['staging', '--image-tag=1'],
  'scripts/rollback.sh': ['staging'],
  'scripts/verify-deployment.sh': ['staging'],
};

describe.each(COMMANDS.map((command) => [command.name, command] as const))('%s', (name, command) => {
  const right = RIGHT[name] ?? [];
  const parse = (...more: string[]) => parseCommand(command, [...right, ...more]);

  it('called rightly, is understood', () => {
    expect(parse()).toBeTypeOf('object');
  });

  const wrong = ['--no-such-option', 'one-more', '', ' '];
  // reconcile.sh takes as many journals as one likes.
  it.each(wrong.filter((more) => more !== 'one-more' || name !== 'scripts/reconcile.sh'))(
    'called with "%s" besides, refuses',
    (more) => {
      expect(() => parse(more)).toThrow(UsageError);
    },
  );

  it('with an option that is empty, as of a variable that is not set, refuses', () => {
    for (const [option, { takes }] of Object.entries(command.options)) {
      if (takes === undefined) continue;
      const others = right.filter((word) => !word.startsWith(`--${option}=`));
      expect(() => parseCommand(command, [...others, `--${option}=`])).toThrow(`--${option} is empty`);
    }
  });

  it('tells in its usage all options, all exit statuses and what it changes', () => {
    const text = usage(command);
    for (const option of Object.keys(command.options)) expect(text).toContain(`  --${option}`);
    for (const status of [2, ...Object.keys(command.exitStatuses)])
      expect(text).toMatch(new RegExp(`\n  ${status} +\\S`));
    expect(text).toContain('Changes: ');
    expect(
      Math.max(
        ...text
          .split('\n')
          .slice(1)
          .map(({ length }) => length),
      ),
    ).toBeLessThan(120);
    expect(commandsPage([command as Command])).toContain(
      `${command.forContributors ? '###' : '##'} ${name}\n`,
    );
  });
});

describe('parseCommand', () => {
  it('parseCommand, of a URL that is wrong, keeps it: there may be a password in it', () => {
    for (const url of ['user:s3cret@host', 'http://user:s3cret@host']) {
      const parse = () => parseCommand(manageQueues, ['status', 'dev', `--consumer=${url}`]);
      expect(parse).toThrow(UsageError);
      expect(parse).toThrow(/^(?!.*s3cret)/);
    }
  });

  it.each([
    [manageQueues, ['delete', 'dev', 'my-old-test-queue'], 'not understood: my-old-test-queue'],
    [manageQueues, ['delete'], 'which environment?'],
    [manageQueues, ['status', 'dev', '--confirm=order-queue'], '--confirm belongs to delete, not to status'],
    [dlq, ['redrive', 'dev', '1'], 'not understood: 1'],
    [dlq, ['redrive', '1'], 'environment: "1" must be dev, staging or production'],
    [dlq, ['show', 'dev', '1', '2'], 'not understood: 2'],
    [dlq, ['redrive', 'dry-run'], 'environment: "dry-run" must be dev, staging or production'],
    [dlq, ['redrive', '--limit=1', '--limit=2'], '--limit is given twice'],
    [dlq, ['peek', '--dry-run'], '--dry-run belongs to redrive, not to peek'],
    [dlq, ['peek', '--limit=0x10'], '--limit: "0x10" must be a whole number'],
    [dlq, ['peek', '--limit=0'], '--limit: "0" must be a whole number from 1 on'],
    [dlq, ['redrive', '--since=10'], '--since: "10" must be a time such as'],
    [dlq, ['run', 'dev', 'a.plan', 'b.plan'], 'not understood: b.plan'],
    [
      dlq,
      ['run', 'a.plan', '--max-failing=101'],
      '--max-failing: "101" must be a whole number from 0 to 100',
    ],
    [dlq, ['redrive', '--all'], '--all belongs to plan, not to redrive'],
    [dlq, ['plan', '--rate=1'], '--rate belongs to redrive and run, not to plan'],
    [watchRelease, ['--minutes='], '--minutes is empty: is a variable not set?'],
    // Timers of 2^31 ms and more fire at once.
    [watchRelease, ['--every=3000000'], '--every: "3000000" must be a number'],
    [faults, ['--only=consumer killed', '--only=rain'], '--only: "rain" must be '],
    [faults, ['--jobs=0'], '--jobs: "0" must be a whole number from 1 on'],
    [mutations, ['--only=none'], '--only: "none" must be '],
    [watchRelease, ['--every=0'], '--every: "0" must be a number'],
  ] as [Command, string[], string][])('parseCommand, of %o %j, refuses: %s', (command, args, problem) => {
    expect(() => parseCommand(command, args)).toThrow(problem);
  });

  it('parseCommand, of a plan without an environment, takes the word for the plan', () => {
    expect(parseCommand(dlq, ['run', 'a.plan'])).toMatchObject({ environment: 'dev', plan: 'a.plan' });
    expect(parseCommand(dlq, ['discard', 'production', 'a.plan', '--because=x'])).toMatchObject({
      environment: 'production',
      plan: 'a.plan',
    });
  });

  it('parseCommand, of an optional word that is left out, goes on with the next one', () => {
    expect(parseCommand(dlq, ['peek', '--limit', '7'])).toMatchObject({
      action: 'peek',
      environment: 'dev',
      limit: 7,
      'dry-run': false,
    });
  });
});
