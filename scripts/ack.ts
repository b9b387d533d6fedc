import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { z } from 'zod';
import { ACKNOWLEDGEMENT } from '../infra/thresholds.ts';
import { defineCommand, runCommand, type ValuesOf } from './command.ts';

export const command = defineCommand({
  name: 'scripts/ack.sh',
  summary:
    'Says that somebody is on an alarm of CloudWatch: the next tiers are not told while it lasts, for the time that monitoring/contacts.yaml has as repeat. Run it again to prolong that. Alerts of Prometheus are acknowledged by a silence in Alertmanager.',
  positionals: {
    environment: { schema: z.enum(['staging', 'production']), description: 'whose account the AWS CLI uses' },
    alarm: {
      schema: z
        .string()
        .regex(/^[A-Za-z0-9-]+$/, 'must be the name of an alarm, such as SQS-DLQ-Messages-High'),
      description: 'its name, as the message has it',
    },
  },
  options: {},
  changes: 'writes one data point, which CloudWatch looks at.',
  needs:
    'the AWS CLI with credentials and AWS_REGION; cloudwatch:DescribeAlarms, and cloudwatch:PutMetricData in the namespace Orders/Alerts.',
  exitStatuses: { 0: 'acknowledged', 1: 'not acknowledged, and why' },
});

/** Runs the AWS CLI and returns its output. */
export type Aws = (args: readonly string[]) => Promise<string>;

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  console.log(await acknowledgeAlarm(values, runAws));
  return 0;
}

const described = z.object({
  CompositeAlarms: z.array(z.object({ AlarmActions: z.array(z.string()) })),
  MetricAlarms: z.array(z.object({ Period: z.number(), EvaluationPeriods: z.number() })),
});

/**
 * @returns what a person should know
 * @throws {StartupError} the account has no such alarm that escalates, or it is another environment's
 */
export async function acknowledgeAlarm(
  { environment, alarm }: ValuesOf<typeof command>,
  aws: Aws,
): Promise<string> {
  // The message of a later tier has the name of its own alarm.
  const name = alarm.replace(/-(Unanswered|Unattended)$/, '');
  const answer = await aws([
    ...['cloudwatch', 'describe-alarms', '--output=json', '--alarm-types', 'MetricAlarm', 'CompositeAlarm'],
    ...['--alarm-names', `${name}-Unattended`, `${name}-Acknowledged`],
  ]);
  const { CompositeAlarms, MetricAlarms } = described.parse(JSON.parse(answer));
  const [[escalation], [acknowledgement]] = [CompositeAlarms, MetricAlarms];
  if (!escalation || !acknowledgement)
    throw new StartupError(`no alarm ${name} that escalates in this account and region`);
  const topic = `orders-${environment}-escalation`;
  if (!escalation.AlarmActions.some((arn) => arn.endsWith(`:${topic}`)))
    throw new StartupError(`the alarm ${name} of this account is not that of ${environment}`);
  await aws([
    ...['cloudwatch', 'put-metric-data', `--namespace=${ACKNOWLEDGEMENT.namespace}`],
    ...[`--metric-name=${ACKNOWLEDGEMENT.metricName}`, '--value=1'],
    `--dimensions=${ACKNOWLEDGEMENT.dimension}=${name}`,
  ]);
  const minutes = (acknowledgement.Period * acknowledgement.EvaluationPeriods) / 60;
  return `${name} acknowledged in ${environment}: for ${minutes} minutes, nobody else is told that it lasts`;
}

const runAws: Aws = async (args) => {
  try {
    return (await promisify(execFile)('aws', [...args], { timeout: 60_000 })).stdout;
  } catch (error) {
    const { code, stderr = '', message } = error as { code?: unknown; stderr?: string; message: string };
    throw new StartupError(
      code === 'ENOENT'
        ? 'the AWS CLI is not installed: there is no aws on the path'
        : stderr.trim() || message,
    );
  }
};
