import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { describe, expect, it } from 'vitest';
import { acknowledgeAlarm } from './ack.ts';

const TOPIC = 'arn:aws:sns:ap-northeast-2:123456789012:orders-staging-escalation';

/** An account with these alarms. */
function account(alarms: { composite?: string[]; metric?: object[] }) {
  const calls: string[] = [];
  const aws = async (args: readonly string[]) => {
    calls.push(args.join(' '));
    return JSON.stringify({
      CompositeAlarms: (alarms.composite ?? []).map((topic) => ({ AlarmActions: [topic] })),
      MetricAlarms: alarms.metric ?? [],
    });
  };
  return { aws, calls };
}
const escalating = { composite: [TOPIC], metric: [{ Period: 300, EvaluationPeriods: 12 }] };

describe('acknowledgeAlarm', () => {
  it.each(['SQS-Queue-Depth-High', 'SQS-Queue-Depth-High-Unanswered', 'SQS-Queue-Depth-High-Unattended'])(
    'writes the data point of the alarm that %s names, and says for how long',
    async (alarm) => {
      const { aws, calls } = account(escalating);
      expect(await acknowledgeAlarm({ environment: 'staging', alarm }, aws)).toBe(
        'SQS-Queue-Depth-High acknowledged in staging: for 60 minutes, nobody else is told that it lasts',
      );
      expect(calls).toEqual([
        'cloudwatch describe-alarms --output=json --alarm-types MetricAlarm CompositeAlarm --alarm-names SQS-Queue-Depth-High-Unattended SQS-Queue-Depth-High-Acknowledged',
        'cloudwatch put-metric-data --namespace=Orders/Alerts --metric-name=Acknowledged --value=1 --dimensions=Alarm=SQS-Queue-Depth-High',
      ]);
    },
  );

  it.each([
    ['an alarm that is not there, or does not escalate', {}, /no alarm CPU-High that escalates/],
    [
      'that of another environment',
      { ...escalating, composite: [TOPIC.replace('staging', 'production')] },
      /not that of staging/,
    ],
  ])('writes nothing for %s', async (_, alarms, message) => {
    const { aws, calls } = account(alarms);
    const acknowledged = acknowledgeAlarm({ environment: 'staging', alarm: 'CPU-High' }, aws);
    await expect(acknowledged).rejects.toThrow(StartupError);
    await expect(acknowledged).rejects.toThrow(message);
    expect(calls).toHaveLength(1);
  });
});
