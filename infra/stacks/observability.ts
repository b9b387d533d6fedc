import { Duration } from 'aws-cdk-lib';
import {
  Alarm,
  type AlarmBase,
  AlarmRule,
  AlarmState,
  ComparisonOperator,
  CompositeAlarm,
  Dashboard,
  GraphWidget,
  type IMetric,
  MathExpression,
  Metric,
  SingleValueWidget,
  TreatMissingData,
} from 'aws-cdk-lib/aws-cloudwatch';
import { SnsAction } from 'aws-cdk-lib/aws-cloudwatch-actions';
import { CfnRule } from 'aws-cdk-lib/aws-events';
import { PolicyStatement, Role, ServicePrincipal } from 'aws-cdk-lib/aws-iam';
import { Key } from 'aws-cdk-lib/aws-kms';
import { Topic } from 'aws-cdk-lib/aws-sns';
import { EmailSubscription } from 'aws-cdk-lib/aws-sns-subscriptions';
import type { Construct } from 'constructs';
import {
  ACKNOWLEDGEMENT,
  ESCALATION,
  type Escalation,
  PERIOD_SECONDS,
  RUNBOOKS,
  THRESHOLDS,
} from '../thresholds.ts';
import { DEAD_LETTER_QUEUE_NAME, QUEUE_NAME } from './messaging.ts';
import { OrderStack, type Place } from './order-stack.ts';
import { createSlackFunction, createSlackInbox, type SlackNeeds } from './slack.ts';

/** `second-tier`: told if nobody has answered in time; `escalation`: if it is neither answered nor over. */
const TOPICS = ['critical', 'second-tier', 'escalation', 'warning', 'info'] as const;
type TopicName = (typeof TOPICS)[number];

type AlarmRow = {
  name: string;
  /** What a person should know who is told of it. */
  description: string;
  metric: IMetric;
  threshold: number;
  below?: true;
  tell: TopicName;
  /**
   * What no data means. SQS sends none for a queue that nobody used for six hours: then nothing waits. An agent that says
   * nothing may have died: then nobody knows.
   */
  missing: 'is fine' | 'is a problem';
  /** Also told to the next tiers where it lasts and nobody acknowledges it, at the matrix's times. */
  urgency?: keyof typeof ESCALATION;
  /** Page of docs/runbooks. */
  runbook: string;
};

/** Alarms, whom they tell, and the dashboard. Metrics of AWS alone: the services' own are Prometheus's (monitoring/). */
export class ObservabilityStack extends OrderStack {
  readonly #topics: Readonly<Record<TopicName, Topic>>;

  /** @param standIn LocalStack 4.14 has neither dashboards nor, without a network of its own, Lambda */
  constructor(scope: Construct, place: Place, slack: SlackNeeds, { standIn = false } = {}) {
    super(scope, 'observability', place, 'Alarms, topics and the dashboard');
    const key = new Key(this, 'Key', {
      alias: `alias/${this.named('alerts')}`,
      description: 'Messages of alarms',
      enableKeyRotation: true,
    });
    const cloudWatch = new ServicePrincipal('cloudwatch.amazonaws.com');
    const ofThisAccount = { StringEquals: { 'aws:SourceAccount': this.account } };
    // An AWS-managed key would not let CloudWatch in:
    // https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html#compatibility-with-aws-services
    key.addToResourcePolicy(
      new PolicyStatement({
        principals: [cloudWatch],
        actions: ['kms:Decrypt', 'kms:GenerateDataKey*'],
        resources: ['*'],
        conditions: ofThisAccount,
      }),
    );
    const topic = (name: TopicName) => {
      const topic = new Topic(this, name, {
        topicName: this.named(name),
        displayName: `Orders, ${place.name}: ${name}`,
        masterKey: key,
        enforceSSL: true,
      });
      topic.addToResourcePolicy(
        new PolicyStatement({
          principals: [cloudWatch],
          actions: ['sns:Publish'],
          resources: [topic.topicArn],
          conditions: ofThisAccount,
        }),
      );
      topic.addSubscription(new EmailSubscription(place.settings.alertEmail));
      return topic;
    };
    this.#topics = Object.fromEntries(TOPICS.map((name) => [name, topic(name)])) as Record<TopicName, Topic>;

    const topics = Object.values(this.#topics);
    const unposted = standIn ? createSlackInbox(this, topics) : createSlackFunction(this, topics, slack);
    this.tellEvents(key);

    const figures = {
      ...figuresOf(place.name, this.clusterName),
      unposted: unposted.metricApproximateNumberOfMessagesVisible({
        period: Duration.seconds(PERIOD_SECONDS),
        statistic: 'Maximum',
      }),
    };
    const alarms = new Map(alarmRows(figures).map((row) => [row.name, this.createAlarm(row)]));
    const atRisk = ['SQS-DLQ-Messages-High', 'Orders-Processing-Delay-High', 'SQS-In-Flight-High'];
    new CompositeAlarm(this, 'OrdersAtRisk', {
      compositeAlarmName: 'Orders-At-Risk',
      alarmDescription: `Orders are late, stuck or rejected: docs/recovery.md. One of ${atRisk.join(', ')}`,
      alarmRule: AlarmRule.anyOf(...atRisk.map((name) => alarms.get(name) as Alarm)),
    });
    if (!standIn) this.createDashboard(figures);
  }

  private createAlarm(row: AlarmRow): Alarm {
    if (row.urgency) this.escalate(row, ESCALATION[row.urgency]);
    // Told after one period; over only after two, or a figure that moves around its threshold would tell again and again.
    const alarm = this.alarm(row, row.name, 2, 1);
    this.tell(alarm, row.tell);
    return alarm;
  }

  private alarm(row: AlarmRow, alarmName: string, periods: number, breaching: number): Alarm {
    return new Alarm(this, alarmName, {
      alarmName,
      alarmDescription: descriptionOf(row),
      metric: row.metric,
      threshold: row.threshold,
      comparisonOperator: row.below
        ? ComparisonOperator.LESS_THAN_THRESHOLD
        : ComparisonOperator.GREATER_THAN_THRESHOLD,
      evaluationPeriods: periods,
      datapointsToAlarm: breaching,
      treatMissingData:
        row.missing === 'is fine' ? TreatMissingData.NOT_BREACHING : TreatMissingData.BREACHING,
    });
  }

  /** Of its beginning and of its end. */
  private tell(alarm: AlarmBase, topic: TopicName): void {
    alarm.addAlarmAction(new SnsAction(this.#topics[topic]));
    alarm.addOkAction(new SnsAction(this.#topics[topic]));
  }

  /** Lasts and nobody has acknowledged it: scripts/ack.sh. An acknowledgement ends by itself, so nobody can forget one. */
  private escalate(
    row: AlarmRow,
    { respondWithinMinutes, escalateAfterMinutes, repeatMinutes }: Escalation,
  ): void {
    const { name } = row;
    const periodsOf = (minutes: number) => Math.ceil((minutes * 60) / PERIOD_SECONDS);
    const acknowledged = new Alarm(this, `${name}-Acknowledged`, {
      alarmName: `${name}-Acknowledged`,
      alarmDescription: `Somebody is on ${name}: scripts/ack.sh`,
      metric: new Metric({
        namespace: ACKNOWLEDGEMENT.namespace,
        metricName: ACKNOWLEDGEMENT.metricName,
        dimensionsMap: { [ACKNOWLEDGEMENT.dimension]: name },
        statistic: 'Maximum',
        period: Duration.seconds(PERIOD_SECONDS),
      }),
      threshold: 0,
      comparisonOperator: ComparisonOperator.GREATER_THAN_THRESHOLD,
      evaluationPeriods: periodsOf(repeatMinutes),
      datapointsToAlarm: 1,
      treatMissingData: TreatMissingData.NOT_BREACHING,
    });
    const next = (suffix: string, afterMinutes: number, topic: TopicName) => {
      const periods = 1 + periodsOf(afterMinutes);
      const lasting = this.alarm(row, `${name}-${afterMinutes}-Minutes`, periods, periods);
      const composite = new CompositeAlarm(this, `${name}-${suffix}`, {
        compositeAlarmName: `${name}-${suffix}`,
        alarmDescription: descriptionOf(row),
        alarmRule: AlarmRule.allOf(
          AlarmRule.fromAlarm(lasting, AlarmState.ALARM),
          AlarmRule.not(AlarmRule.fromAlarm(acknowledged, AlarmState.ALARM)),
        ),
      });
      this.tell(composite, topic);
    };
    next('Unanswered', respondWithinMinutes, 'second-tier');
    next('Unattended', escalateAfterMinutes, 'escalation');
  }

  /** What nobody must act on, by way of EventBridge: a deployment that is done, a database that went to its standby. */
  private tellEvents(key: Key): void {
    const role = new Role(this, 'EventsRole', {
      roleName: this.named('events'),
      description: 'EventBridge, which tells of deployments and restarts',
      assumedBy: new ServicePrincipal('events.amazonaws.com', {
        conditions: { StringEquals: { 'aws:SourceAccount': this.account } },
      }),
    });
    role.addToPolicy(
      new PolicyStatement({ actions: ['sns:Publish'], resources: [this.#topics.info.topicArn] }),
    );
    role.addToPolicy(
      new PolicyStatement({
        actions: ['kms:Decrypt', 'kms:GenerateDataKey'],
        resources: [key.keyArn],
        conditions: { StringEquals: { 'kms:ViaService': `sns.${this.region}.amazonaws.com` } },
      }),
    );
    const rule = (name: string, eventPattern: CfnRule['eventPattern']) =>
      new CfnRule(this, name, {
        name: this.named(name.toLowerCase()),
        eventPattern,
        targets: [{ id: 'info', arn: this.#topics.info.topicArn, roleArn: role.roleArn }],
      });
    rule('Releases', {
      source: ['order-pipeline'],
      'detail-type': ['Deployment Done', 'Service Restarted'],
      detail: { environment: [this.place.name] },
    });
    // https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/USER_Events.Messages.html
    rule('Database', {
      source: ['aws.rds'],
      'detail-type': ['RDS DB Instance Event'],
      detail: {
        SourceIdentifier: [this.named('database')],
        EventCategories: ['availability', 'failover', 'failure', 'recovery'],
      },
    });
  }

  private createDashboard(figures: Figures): void {
    const graph = (title: string, ...left: IMetric[]) => new GraphWidget({ title, left, width: 8 });
    new Dashboard(this, 'Dashboard', {
      dashboardName: this.named('').replace(/-$/, ''),
      defaultInterval: Duration.hours(3),
      widgets: [
        [
          graph('Messages per second: sent, received', figures.sentPerSecond, figures.receivedPerSecond),
          graph('Queue depth', figures.depth, figures.inFlight),
          new SingleValueWidget({ title: 'Messages in the DLQ', metrics: [figures.deadLetters], width: 8 }),
        ],
        [
          graph('Processing delay: age of the oldest message', figures.delaySeconds),
          graph('Throughput: messages processed per second', figures.processedPerSecond),
          graph('Error rate, %', figures.errorPercent),
        ],
        [
          graph('CPU of the nodes, %', figures.cpuPercent),
          graph('Memory of the pods, % of their limit', ...figures.memoryPercent),
          graph('Network, bytes per second', ...figures.network),
          graph('Disk of the nodes, %', figures.diskPercent),
        ],
      ],
    });
  }
}

/** The function of Slack reads the runbook from it. */
const descriptionOf = ({ description, runbook }: AlarmRow) =>
  `${description}. Runbook: ${RUNBOOKS}/${runbook}.md`;

/** `unposted`: what could not be posted to Slack. */
type Figures = ReturnType<typeof figuresOf> & { unposted: IMetric };

/** What the alarms and the dashboard look at. */
function figuresOf(namespace: string, cluster: string) {
  const period = Duration.seconds(PERIOD_SECONDS);
  const ofQueue = (QueueName: string, metricName: string, statistic: string) =>
    new Metric({ namespace: 'AWS/SQS', metricName, dimensionsMap: { QueueName }, statistic, period });
  const perSecond = (label: string, metric: Metric) =>
    new MathExpression({
      expression: `${label} / PERIOD(${label})`,
      usingMetrics: { [label]: metric },
      label,
      period,
    });
  const ofContainers = (metricName: string, pod?: string) =>
    new Metric({
      namespace: 'ContainerInsights',
      metricName,
      dimensionsMap: { ClusterName: cluster, ...(pod ? { Namespace: namespace, PodName: pod } : {}) },
      statistic: 'Maximum',
      period,
    });
  const ofPods = (metricName: string) =>
    ['order-producer', 'order-consumer'].map((pod) => ofContainers(metricName, pod));

  // CloudWatch has no metric ApproximateNumberOfMessages, as SQS's own attribute is called:
  // https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html
  const depth = ofQueue(QUEUE_NAME, 'ApproximateNumberOfMessagesVisible', 'Average');
  const processed = ofQueue(QUEUE_NAME, 'NumberOfMessagesDeleted', 'Sum');
  const rejected = ofQueue(DEAD_LETTER_QUEUE_NAME, 'NumberOfMessagesSent', 'Sum');
  return {
    depth,
    /** Not what was sent there: SQS does not count the messages that it moves there itself. */
    deadLetters: ofQueue(DEAD_LETTER_QUEUE_NAME, 'ApproximateNumberOfMessagesVisible', 'Maximum'),
    inFlight: ofQueue(QUEUE_NAME, 'ApproximateNumberOfMessagesNotVisible', 'Maximum'),
    /** Leaves out messages that were received three times or more: Prometheus has the consumer's own figure. */
    delaySeconds: ofQueue(QUEUE_NAME, 'ApproximateAgeOfOldestMessage', 'Maximum'),
    sentPerSecond: perSecond('sent', ofQueue(QUEUE_NAME, 'NumberOfMessagesSent', 'Sum')),
    receivedPerSecond: perSecond('received', ofQueue(QUEUE_NAME, 'NumberOfMessagesReceived', 'Sum')),
    processedPerSecond: perSecond('processed', processed),
    /** While more than the goal's messages wait; the goal itself otherwise. Messages, of which packed ones hold several orders. */
    rateUnderBacklog: new MathExpression({
      expression: `IF(depth > ${THRESHOLDS.backlog.warning}, done / PERIOD(done), 1000)`,
      usingMetrics: { done: processed, depth },
      label: 'processed per second, while there is a backlog',
      period,
    }),
    /** The consumer itself sends what it rejects to the DLQ, and deletes it then: of all that it was done with. */
    errorPercent: new MathExpression({
      expression: 'IF(done > 0, 100 * rejected / done, 0)',
      usingMetrics: { done: processed, rejected },
      label: 'rejected, %',
      period,
    }),
    cpuPercent: ofContainers('node_cpu_utilization'),
    diskPercent: ofContainers('node_filesystem_utilization'),
    memoryPercent: ofPods('pod_memory_utilization_over_pod_limit'),
    network: ['pod_network_rx_bytes', 'pod_network_tx_bytes'].flatMap(ofPods),
  };
}

/** Every alarm: the guideline's first, by its names. */
function alarmRows(figures: Figures): AlarmRow[] {
  const { deadLetters, queueDepth, delaySeconds, errorShare, inFlight, backlog } = THRESHOLDS;
  const { ordersPerSecond, memoryShare, cpuShare } = THRESHOLDS;
  const steps = (
    name: string,
    metric: IMetric,
    { warning, danger }: { warning: number; danger: number },
    more: Pick<AlarmRow, 'description' | 'missing' | 'below' | 'runbook'>,
  ): AlarmRow[] => [
    { name: `${name}-Warning`, metric, threshold: warning, tell: 'info', ...more },
    { name: `${name}-Danger`, metric, threshold: danger, tell: 'warning', ...more },
  ];
  const percent = ({ warning, danger }: { warning: number; danger: number }) => ({
    warning: 100 * warning,
    danger: 100 * danger,
  });
  return [
    {
      name: 'SQS-DLQ-Messages-High',
      description: 'Orders were rejected. See why: scripts/dlq.sh peek',
      runbook: 'DeadLetters',
      metric: figures.deadLetters,
      threshold: deadLetters.critical,
      tell: 'critical',
      missing: 'is fine',
      urgency: 'critical',
    },
    {
      name: 'SQS-Queue-Depth-High',
      description: 'Orders wait. Are there enough consumers? scripts/manage-queues.sh status',
      runbook: 'QueueDepthHigh',
      metric: figures.depth,
      threshold: queueDepth.warning,
      tell: 'warning',
      missing: 'is fine',
      urgency: 'high',
    },
    {
      name: 'Orders-Processing-Delay-High',
      description: 'An order has waited for more than five minutes',
      runbook: 'OrdersDelayed',
      metric: figures.delaySeconds,
      threshold: delaySeconds.critical,
      tell: 'critical',
      missing: 'is fine',
      urgency: 'critical',
    },
    {
      name: 'Orders-Error-Rate-High',
      description: 'Of the messages processed, too many are rejected: scripts/dlq.sh peek',
      runbook: 'ErrorShareHigh',
      metric: figures.errorPercent,
      threshold: 100 * errorShare.warning,
      tell: 'warning',
      missing: 'is fine',
      urgency: 'high',
    },
    {
      name: 'SQS-In-Flight-High',
      description:
        'SQS hands out no more than 120,000 messages at a time. Do consumers hold what they do not finish?',
      runbook: 'InFlightNearLimit',
      metric: figures.inFlight,
      threshold: inFlight.critical,
      tell: 'critical',
      missing: 'is fine',
      urgency: 'critical',
    },
    {
      name: 'Alerts-Not-Posted',
      description:
        'Slack did not take a message, or SNS could not deliver it: it is in the queue of the function',
      runbook: 'README',
      metric: figures.unposted,
      threshold: 0,
      tell: 'warning',
      missing: 'is fine',
    },
    ...steps('Orders-Backlog', figures.depth, backlog, {
      description: 'Messages wait: the goal is fewer than 10',
      runbook: 'QueueDepthHigh',
      missing: 'is fine',
    }),
    ...steps('Orders-Rate-Low', figures.rateUnderBacklog, ordersPerSecond, {
      description: 'A backlog shrinks more slowly than it should',
      runbook: 'OrderRateLow',
      below: true,
      missing: 'is fine',
    }),
    ...figures.memoryPercent.flatMap((metric) =>
      steps(
        `Memory-High-${metric.dimensions?.['PodName'] ?? metric.metricName}`,
        metric,
        percent(memoryShare),
        {
          description: 'A pod is about to reach its memory limit',
          runbook: 'MemoryHigh',
          missing: 'is a problem',
        },
      ),
    ),
    ...steps('CPU-High', figures.cpuPercent, percent(cpuShare), {
      description: 'A node is busy',
      runbook: 'CpuHigh',
      missing: 'is a problem',
    }),
  ];
}
