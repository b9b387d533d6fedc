import { setTimeout as sleep } from 'node:timers/promises';
import type { CloudFormation, Stack, StackEvent } from '@aws-sdk/client-cloudformation';
import type { SQSClient } from '@aws-sdk/client-sqs';
import { queueDrift } from '@orders/shared/sqs/queue-admin.ts';
import { deadLetterQueueDefinition, orderQueueDefinition } from '@orders/shared/sqs/queues.ts';
import { explainAwsError } from './account.ts';
import { type Change, compareTemplates, type Template } from './changes.ts';
import type { EnvironmentName } from './environments.ts';
import { DEAD_LETTER_QUEUE_NAME, QUEUE_NAME } from './stacks/messaging.ts';

/** A stack as it was synthesised. */
export type Wanted = { stackName: string; template: Template };

/** CloudFormation takes a minute or two for the largest stack. */
const DRIFT_LIMIT_MS = 10 * 60_000;

/** Nothing was made yet, or all of it was taken back: the next deployment begins from nothing. */
const EMPTY = ['REVIEW_IN_PROGRESS', 'ROLLBACK_COMPLETE', 'DELETE_COMPLETE'];

export class DeployedStacks {
  readonly #cloudFormation: CloudFormation;

  constructor(cloudFormation: CloudFormation) {
    this.#cloudFormation = cloudFormation;
  }

  /** Undefined where there is none of that name. */
  async find(stackName: string): Promise<Stack | undefined> {
    try {
      return (await this.#cloudFormation.describeStacks({ StackName: stackName })).Stacks?.[0];
    } catch (error) {
      const { name, message } = error as Error;
      if (name === 'ValidationError' && message.includes('does not exist')) return undefined;
      throw explainAwsError(error);
    }
  }

  /** What deploying would change, by the templates. */
  async changes({ stackName, template }: Wanted): Promise<Change[]> {
    const stack = await this.find(stackName);
    if (!stack || EMPTY.includes(stack.StackStatus ?? '')) return compareTemplates(stackName, {}, template);
    const { TemplateBody = '{}' } = await this.#ask((client) =>
      client.getTemplate({ StackName: stackName, TemplateStage: 'Original' }),
    );
    return compareTemplates(stackName, JSON.parse(TemplateBody), template);
  }

  /** What happened to a stack, newest first. */
  async events(stackName: string): Promise<StackEvent[]> {
    if (!(await this.find(stackName))) return [];
    const { StackEvents = [] } = await this.#ask((client) =>
      client.describeStackEvents({ StackName: stackName }),
    );
    return StackEvents;
  }

  /** What failed at its first creation is empty, and CDK deletes it before it tries again: unless it is protected. */
  async unprotectFailedCreation(stackName: string): Promise<void> {
    const stack = await this.find(stackName);
    if (stack?.StackStatus !== 'ROLLBACK_COMPLETE' || !stack.EnableTerminationProtection) return;
    await this.#ask((client) =>
      client.updateTerminationProtection({ StackName: stackName, EnableTerminationProtection: false }),
    );
  }

  /**
   * How the resources of a stack differ from its template: somebody changed them by hand.
   * @returns undefined where CloudFormation does not compare (LocalStack)
   * @throws {StartupError} a right is missing: CloudFormation reads each resource with the caller's rights
   */
  async drift(stackName: string): Promise<string[] | undefined> {
    const id = await this.#cloudFormation.detectStackDrift({ StackName: stackName }).then(
      ({ StackDriftDetectionId }) => StackDriftDetectionId ?? '',
      (error) => {
        if ((error as { $metadata?: { httpStatusCode?: number } }).$metadata?.httpStatusCode === 501)
          return undefined;
        throw explainAwsError(error);
      },
    );
    if (id === undefined) return undefined;
    const deadline = performance.now() + DRIFT_LIMIT_MS;
    for (;;) {
      const { DetectionStatus, DetectionStatusReason } = await this.#ask((client) =>
        client.describeStackDriftDetectionStatus({ StackDriftDetectionId: id }),
      );
      if (DetectionStatus === 'DETECTION_COMPLETE') break;
      if (DetectionStatus !== 'DETECTION_IN_PROGRESS' || performance.now() > deadline)
        throw explainAwsError(
          new Error(
            `${stackName}: drift is not known: ${DetectionStatusReason ?? 'the comparison does not end'}`,
          ),
        );
      await sleep(2_000);
    }
    const drifts: string[] = [];
    for (let NextToken: string | undefined, first = true; first || NextToken; first = false) {
      const page = await this.#ask((client) =>
        client.describeStackResourceDrifts({
          StackName: stackName,
          StackResourceDriftStatusFilters: ['MODIFIED', 'DELETED'],
          ...(NextToken ? { NextToken } : {}),
        }),
      );
      for (const {
        LogicalResourceId,
        ResourceType,
        StackResourceDriftStatus,
        PropertyDifferences = [],
      } of page.StackResourceDrifts ?? []) {
        const at = `${stackName}/${LogicalResourceId} ${ResourceType}`;
        if (StackResourceDriftStatus === 'DELETED') drifts.push(`${at}: is gone`);
        for (const { PropertyPath, ActualValue, ExpectedValue } of PropertyDifferences)
          drifts.push(`${at}: ${PropertyPath} is ${ActualValue}, deployed was ${ExpectedValue}`);
      }
      NextToken = page.NextToken;
    }
    return drifts;
  }

  async #ask<T>(ask: (client: CloudFormation) => Promise<T>): Promise<T> {
    return ask(this.#cloudFormation).catch((error) => {
      throw explainAwsError(error);
    });
  }
}

/** How the two queues differ from their definition: also where CloudFormation does not compare. */
export async function driftOfQueues(
  client: SQSClient,
  environment: EnvironmentName,
  /** What their ARNs begin with: `arn:aws:sqs:REGION:ACCOUNT`. */
  arn: string,
): Promise<string[]> {
  const definitions = [
    deadLetterQueueDefinition(environment, DEAD_LETTER_QUEUE_NAME),
    orderQueueDefinition(environment, QUEUE_NAME, `${arn}:${DEAD_LETTER_QUEUE_NAME}`),
  ];
  const drifts = await Promise.all(
    definitions.map(async (definition) => {
      const drift = await queueDrift(client, definition);
      if (!drift) return [`${definition.name}: is not there`];
      return drift.map(
        ({ attribute, found, wanted }) =>
          `${definition.name}: ${attribute} is ${found || 'not set'}, defined is ${wanted || 'not set'}`,
      );
    }),
  );
  return drifts.flat();
}
