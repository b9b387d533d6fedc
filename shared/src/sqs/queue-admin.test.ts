import {
  CreateQueueCommand,
  DeleteQueueCommand,
  GetQueueUrlCommand,
  ListQueueTagsCommand,
  QueueDoesNotExist,
  SetQueueAttributesCommand,
  SQSClient,
  TagQueueCommand,
} from '@aws-sdk/client-sqs';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { startEmulator } from '../../../dev/emulator.ts';
import { StartupError } from '../runtime/startup-error.ts';
import {
  deleteQueue,
  ensureQueues,
  findQueueUrl,
  type QueueChange,
  queueAttributes,
  queueDrift,
  resolveQueues,
} from './queue-admin.ts';
import { deadLetterQueueDefinition, orderQueueDefinition } from './queues.ts';

const names = { queue: 'orders', deadLetterQueue: 'orders-dead' };

describe('queues', () => {
  let emulator: { endpoint: string; stop: () => Promise<void> };
  let client: SQSClient;

  beforeEach(async () => {
    emulator = await startEmulator({ port: 0 });
    const credentials = { accessKeyId: 'test', secretAccessKey: 'test' };
    client = new SQSClient({
      region: 'ap-northeast-2',
      endpoint: emulator.endpoint,
      credentials,
      maxAttempts: 1,
    });
  });
  afterEach(async () => {
    client.destroy();
    await emulator.stop();
  });

  const config = (
    overrides: { APP_ENV?: 'dev' | 'staging' | 'production'; EXPECTED_AWS_ACCOUNT?: string } = {},
  ) => ({
    APP_ENV: 'dev' as const,
    AWS_REGION: 'ap-northeast-2',
    AWS_ENDPOINT_URL: emulator.endpoint,
    AWS_ENDPOINT_URL_SQS: undefined,
    ORDER_QUEUE_NAME: names.queue,
    ORDER_DLQ_NAME: names.deadLetterQueue,
    ...overrides,
  });

  it('queueDrift, of a queue that was changed, says what differs and leaves it; of no queue, is undefined', async () => {
    const definition = deadLetterQueueDefinition('dev', names.deadLetterQueue);
    expect(await queueDrift(client, definition)).toBeUndefined();
    const { deadLetterQueue } = await ensureQueues(client, 'dev', names);
    expect(await queueDrift(client, definition)).toEqual([]);
    const Attributes = { VisibilityTimeout: '7', Policy: '{"Statement":[]}' };
    await client.send(new SetQueueAttributesCommand({ QueueUrl: deadLetterQueue.url, Attributes }));
    const wanted = definition.attributes.VisibilityTimeout;
    expect(await queueDrift(client, definition)).toEqual([
      { attribute: 'VisibilityTimeout', found: '7', wanted },
    ]);
    expect(await queueAttributes(client, deadLetterQueue.url)).toMatchObject({ VisibilityTimeout: '7' });
  });

  describe('ensureQueues', () => {
    it.each(['dev', 'production'] as const)(
      'ensureQueues, in an empty %s, creates both as defined',
      async (appEnv) => {
        const { queue, deadLetterQueue } = await ensureQueues(client, appEnv, names);
        expect(queue).toMatchObject({ name: 'orders', created: true, drift: [] });
        expect(deadLetterQueue).toMatchObject({ name: 'orders-dead', created: true, drift: [] });
        const dead = await queueAttributes(client, deadLetterQueue.url);
        expect(dead).toMatchObject(deadLetterQueueDefinition(appEnv, '').attributes);
        const { RedrivePolicy, ...live } = orderQueueDefinition(appEnv, '', dead.QueueArn ?? '').attributes;
        const found = await queueAttributes(client, queue.url);
        expect(found).toMatchObject(live);
        expect(JSON.parse(found.RedrivePolicy ?? '')).toEqual(JSON.parse(RedrivePolicy ?? ''));
      },
    );

    it('ensureQueues, called again, changes nothing', async () => {
      const first = await ensureQueues(client, 'dev', names);
      const send = vi.spyOn(client, 'send');
      const second = await ensureQueues(client, 'dev', names);
      expect(second.queue).toEqual({ ...first.queue, created: false });
      expect(second.deadLetterQueue).toEqual({ ...first.deadLetterQueue, created: false });
      expect(send.mock.calls.some(([command]) => command instanceof SetQueueAttributesCommand)).toBe(false);
    });

    it('ensureQueues, called by several at once, succeeds for each', async () => {
      const all = await Promise.all([1, 2, 3].map(() => ensureQueues(client, 'dev', names)));
      expect(new Set(all.map(({ queue }) => queue.url)).size).toBe(1);
    });

    it('ensureQueues, of drifted attributes, shows them, then mends them and nothing else', async () => {
      const { queue } = await ensureQueues(client, 'dev', names);
      const Attributes = { VisibilityTimeout: '30', MessageRetentionPeriod: '60' };
      await client.send(new SetQueueAttributesCommand({ QueueUrl: queue.url, Attributes }));
      const drift = [
        { attribute: 'MessageRetentionPeriod', found: '60', wanted: String(4 * 24 * 3_600) },
        { attribute: 'VisibilityTimeout', found: '30', wanted: '60' },
      ];
      const shown: unknown[] = [];
      const send = vi.spyOn(client, 'send');
      const beforeMend = (change: QueueChange) => {
        const mends = send.mock.calls.filter(([command]) => command instanceof SetQueueAttributesCommand);
        shown.push({ change, mendsSoFar: mends.length });
      };
      const mended = await ensureQueues(client, 'dev', names, { beforeMend });
      const change = { name: 'orders', url: queue.url, created: false, drift, left: [] };
      expect(shown).toEqual([{ change, mendsSoFar: 0 }]);
      expect(mended.queue.drift).toEqual(drift);
      expect(mended.deadLetterQueue.drift).toEqual([]);
      expect(await queueAttributes(client, queue.url)).toMatchObject({ VisibilityTimeout: '60' });
      expect((await ensureQueues(client, 'dev', names)).queue.drift).toEqual([]);
    });

    it.each([
      ['keys in another order', (arn: string) => ({ maxReceiveCount: 20, deadLetterTargetArn: arn }), false],
      ['the count as text', (arn: string) => ({ deadLetterTargetArn: arn, maxReceiveCount: '20' }), false],
      ['another count', (arn: string) => ({ deadLetterTargetArn: arn, maxReceiveCount: 3 }), true],
    ])('ensureQueues, given a RedrivePolicy with %s, finds drift: %s', async (_what, policyOf, drifted) => {
      const { queue, deadLetterQueue } = await ensureQueues(client, 'dev', names);
      const { QueueArn = '' } = await queueAttributes(client, deadLetterQueue.url);
      const Attributes = { RedrivePolicy: JSON.stringify(policyOf(QueueArn)) };
      await client.send(new SetQueueAttributesCommand({ QueueUrl: queue.url, Attributes }));
      const { drift } = (await ensureQueues(client, 'dev', names)).queue;
      expect(drift.map(({ attribute }) => attribute)).toEqual(drifted ? ['RedrivePolicy'] : []);
    });

    it('ensureQueues, given an engine that has not all attributes, mends what it has and sets no others', async () => {
      const { queue } = await ensureQueues(client, 'dev', names);
      const Attributes = { VisibilityTimeout: '30' };
      await client.send(new SetQueueAttributesCommand({ QueueUrl: queue.url, Attributes }));
      client.middlewareStack.add((next, { commandName }) => async (args) => {
        const result = await next(args);
        const { Attributes } = result.output as { Attributes?: Record<string, string> };
        if (commandName === 'GetQueueAttributesCommand')
          for (const absent of ['SqsManagedSseEnabled', 'MaximumMessageSize']) delete Attributes?.[absent];
        return result;
      });
      const { drift } = (await ensureQueues(client, 'dev', names)).queue;
      expect(drift).toEqual([{ attribute: 'VisibilityTimeout', found: '30', wanted: '60' }]);
    });

    const set = async (url: string, Attributes: Record<string, string>) => {
      await client.send(new SetQueueAttributesCommand({ QueueUrl: url, Attributes }));
    };

    it('ensureQueues, given a queue that delays its messages and a dead-letter queue that moves them on, mends both', async () => {
      const { queue, deadLetterQueue } = await ensureQueues(client, 'dev', names);
      const policy = JSON.stringify({
        deadLetterTargetArn: (await queueAttributes(client, queue.url)).QueueArn,
        maxReceiveCount: 2,
      });
      await set(queue.url, { DelaySeconds: '900' });
      await set(deadLetterQueue.url, { DelaySeconds: '60', RedrivePolicy: policy });
      const mended = await ensureQueues(client, 'dev', names);
      expect(mended.queue.drift).toEqual([{ attribute: 'DelaySeconds', found: '900', wanted: '0' }]);
      expect(mended.deadLetterQueue.drift).toEqual([
        { attribute: 'DelaySeconds', found: '60', wanted: '0' },
        { attribute: 'RedrivePolicy', found: policy, wanted: '' },
      ]);
      expect(await queueAttributes(client, queue.url)).toMatchObject({ DelaySeconds: '0' });
      expect((await queueAttributes(client, deadLetterQueue.url)).RedrivePolicy ?? '').toBe('');
      expect((await ensureQueues(client, 'dev', names)).deadLetterQueue.drift).toEqual([]);
    });

    it('ensureQueues, given a queue that is encrypted by another key, leaves it, and reports it', async () => {
      const { queue } = await ensureQueues(client, 'staging', names);
      const key = 'arn:aws:kms:ap-northeast-2:111111111111:key/1';
      await set(queue.url, { KmsMasterKeyId: key, SqsManagedSseEnabled: 'false' });
      const again = await ensureQueues(client, 'staging', names);
      expect(again.queue).toMatchObject({
        drift: [],
        left: [{ attribute: 'KmsMasterKeyId', found: key, wanted: 'none' }],
      });
      expect(await queueAttributes(client, queue.url)).toMatchObject({ KmsMasterKeyId: key });
      expect(again.deadLetterQueue.left).toEqual([]);
    });

    it('ensureQueues, given a queue with a policy, leaves it, and reports it', async () => {
      const { queue } = await ensureQueues(client, 'dev', names);
      await set(queue.url, { Policy: '{}' });
      expect((await ensureQueues(client, 'dev', names)).queue.left).toEqual([
        { attribute: 'Policy', found: '{}', wanted: undefined },
      ]);
    });

    it('ensureQueues, given a queue that CloudFormation owns, leaves it, and reports how it differs', async () => {
      const { queue } = await ensureQueues(client, 'staging', names);
      await client.send(
        new TagQueueCommand({ QueueUrl: queue.url, Tags: { 'order-pipeline/owner': 'infra' } }),
      );
      await set(queue.url, { VisibilityTimeout: '90' });
      expect((await ensureQueues(client, 'staging', names)).queue).toMatchObject({
        drift: [],
        left: [{ attribute: 'VisibilityTimeout', found: '90', wanted: '60' }],
      });
      expect(await queueAttributes(client, queue.url)).toMatchObject({ VisibilityTimeout: '90' });
    });

    it('ensureQueues, of queues of another environment, changes nothing', async () => {
      const { queue } = await ensureQueues(client, 'production', names);
      const before = await queueAttributes(client, queue.url);
      await expect(ensureQueues(client, 'staging', names)).rejects.toThrow(
        'orders-dead is tagged as that of production, not of staging',
      );
      expect(await queueAttributes(client, queue.url)).toEqual(before);
    });

    it('ensureQueues, of queues of another account, changes nothing, and makes no second one there', async () => {
      const account = '111122223333';
      const own = ensureQueues(client, 'staging', names, { account });
      await expect(own).rejects.toThrow('orders-dead, created just now, belongs to account 000000000000');
      expect(await findQueueUrl(client, 'orders')).toBeUndefined();
      const send = vi.spyOn(client, 'send');
      await expect(ensureQueues(client, 'staging', names, { account })).rejects.toThrow(
        `orders-dead belongs to account 000000000000, not to ${account} (EXPECTED_AWS_ACCOUNT`,
      );
      expect(send.mock.calls.every(([command]) => command instanceof GetQueueUrlCommand)).toBe(true);
    });

    it('ensureQueues, of queues that somebody else made, tags them', async () => {
      const { QueueUrl } = await client.send(new CreateQueueCommand({ QueueName: 'orders' }));
      await ensureQueues(client, 'staging', names);
      for (const QueueUrl_ of [QueueUrl, await findQueueUrl(client, 'orders-dead')])
        expect((await client.send(new ListQueueTagsCommand({ QueueUrl: QueueUrl_ }))).Tags).toEqual({
          'order-pipeline/environment': 'staging',
        });
    });

    it('ensureQueues, given a queue without any RedrivePolicy, gives it one', async () => {
      const { queue } = await ensureQueues(client, 'dev', names);
      await client.send(
        new SetQueueAttributesCommand({ QueueUrl: queue.url, Attributes: { RedrivePolicy: '' } }),
      );
      await ensureQueues(client, 'dev', names);
      expect(JSON.parse((await queueAttributes(client, queue.url)).RedrivePolicy ?? '')).toMatchObject({
        deadLetterTargetArn: expect.stringMatching(/:orders-dead$/),
      });
    });
  });

  describe('findQueueUrl and deleteQueue', () => {
    it('findQueueUrl, given a queue that was deleted, is undefined', async () => {
      const { queue } = await ensureQueues(client, 'dev', names);
      expect(await findQueueUrl(client, 'orders')).toBe(queue.url);
      const send = vi.spyOn(client, 'send');
      await deleteQueue(client, queue.url);
      expect(send.mock.calls[0]?.[0]).toBeInstanceOf(DeleteQueueCommand);
      expect(await findQueueUrl(client, 'orders')).toBeUndefined();
    });

    it('findQueueUrl, given any other failure, passes it on', async () => {
      vi.spyOn(client, 'send').mockImplementation(() => Promise.reject(new Error('throttled')));
      await expect(findQueueUrl(client, 'orders')).rejects.toThrow('throttled');
    });
  });

  describe('resolveQueues', () => {
    it('resolveQueues, of queues that are there, gives their URLs and changes nothing', async () => {
      const { queue, deadLetterQueue } = await ensureQueues(client, 'production', names);
      const send = vi.spyOn(client, 'send');
      const urls = await resolveQueues(client, config({ APP_ENV: 'production' }));
      expect(urls).toEqual({ queueUrl: queue.url, deadLetterQueueUrl: deadLetterQueue.url });
      const looks = [GetQueueUrlCommand, ListQueueTagsCommand];
      expect(send.mock.calls.every(([command]) => looks.some((look) => command instanceof look))).toBe(true);
    });

    const EMULATOR_ACCOUNT = '000000000000';
    const deny = (commandName: string, name: string) =>
      client.middlewareStack.add((next, context) => (args) => {
        if (context.commandName !== commandName) return next(args);
        throw Object.assign(new Error('no'), { name });
      });

    it.each([
      ['staging', 'production'],
      ['production', 'staging'],
    ] as const)(
      'resolveQueues, in %s, of queues of %s with the same names, refuses them by their tag',
      async (appEnv, other) => {
        await ensureQueues(client, other, names);
        const own = config({ APP_ENV: appEnv, EXPECTED_AWS_ACCOUNT: EMULATOR_ACCOUNT });
        await expect(resolveQueues(client, own)).rejects.toThrow(
          new RegExp(
            `^orders(-dead)? is tagged as that of ${other}, not of ${appEnv} \\(order-pipeline/environment; APP_ENV, or`,
          ),
        );
      },
    );

    it.each(['staging', 'production'] as const)(
      'resolveQueues, in %s, of queues of another account with the same names and tags, refuses them by their account',
      async (appEnv) => {
        await ensureQueues(client, appEnv, names);
        const send = vi.spyOn(client, 'send');
        const own = config({ APP_ENV: appEnv, EXPECTED_AWS_ACCOUNT: '111122223333' });
        await expect(resolveQueues(client, own)).rejects.toThrow(
          new StartupError(
            "orders belongs to account 000000000000, not to 111122223333 (EXPECTED_AWS_ACCOUNT; or the credentials are another account's)",
          ),
        );
        expect(send.mock.calls.every(([command]) => command instanceof GetQueueUrlCommand)).toBe(true);
        const warn = vi.fn();
        await resolveQueues(client, { ...own, EXPECTED_AWS_ACCOUNT: EMULATOR_ACCOUNT }, { warn });
        expect(warn).not.toHaveBeenCalled();
      },
    );

    it('resolveQueues, of a dead-letter queue of another environment alone, refuses it', async () => {
      await ensureQueues(client, 'production', { ...names, queue: 'others' });
      await client.send(
        new CreateQueueCommand({ QueueName: 'orders', tags: { 'order-pipeline/environment': 'staging' } }),
      );
      await expect(resolveQueues(client, config({ APP_ENV: 'staging' }))).rejects.toThrow(
        'orders-dead is tagged as that of production',
      );
    });

    it('resolveQueues, of queues without a tag, or without the right to read it, or without an account, works with them and warns', async () => {
      for (const QueueName of Object.values(names)) await client.send(new CreateQueueCommand({ QueueName }));
      const warningsOf = async () => {
        const findings: string[] = [];
        await resolveQueues(client, config({ APP_ENV: 'staging' }), {
          warn: (finding) => findings.push(finding),
        });
        return findings.toSorted();
      };
      const ofAccount = 'EXPECTED_AWS_ACCOUNT is not set: queues and keys of any account are taken';
      const untagged = (name: string) =>
        `${name} has no tag order-pipeline/environment: scripts/manage-queues.sh create staging sets it`;
      expect(await warningsOf()).toEqual([ofAccount, untagged('orders'), untagged('orders-dead')]);
      deny('ListQueueTagsCommand', 'AccessDeniedException');
      const unread = (name: string) =>
        `whose environment ${name} belongs to was not checked: sqs:ListQueueTags is not allowed`;
      expect(await warningsOf()).toEqual([ofAccount, unread('orders'), unread('orders-dead')]);
    });

    it('resolveQueues, outside dev, where tags cannot be read for another reason, says so and does not start', async () => {
      await ensureQueues(client, 'staging', names);
      deny('ListQueueTagsCommand', 'ThrottlingException');
      await expect(resolveQueues(client, config({ APP_ENV: 'staging' }))).rejects.toThrow(
        /^cannot work with http:.*: ThrottlingException/,
      );
    });

    it('resolveQueues, in dev, checks the account if it is told one, and asks for no tag', async () => {
      await ensureQueues(client, 'production', names);
      const send = vi.spyOn(client, 'send');
      await resolveQueues(client, config());
      expect(send.mock.calls.every(([command]) => command instanceof GetQueueUrlCommand)).toBe(true);
      await expect(resolveQueues(client, config({ EXPECTED_AWS_ACCOUNT: '111122223333' }))).rejects.toThrow(
        'belongs to account 000000000000',
      );
    });

    it('resolveQueues, in development against an emulator, creates what is missing', async () => {
      const urls = await resolveQueues(client, config());
      expect(urls.queueUrl).toBe(await findQueueUrl(client, 'orders'));
      expect(urls.deadLetterQueueUrl).toBe(await findQueueUrl(client, 'orders-dead'));
    });

    it('resolveQueues, in staging without the queue, names variable, region and what to do, and creates nothing', async () => {
      await expect(resolveQueues(client, config({ APP_ENV: 'staging' }))).rejects.toThrow(
        new StartupError(
          'queue "orders" (ORDER_QUEUE_NAME) does not exist in ap-northeast-2; create it with scripts/manage-queues.sh create staging',
        ),
      );
      expect(await findQueueUrl(client, 'orders')).toBeUndefined();
    });

    it('resolveQueues, without the dead-letter queue alone, names that', async () => {
      const { deadLetterQueue } = await ensureQueues(client, 'staging', names);
      await deleteQueue(client, deadLetterQueue.url);
      await expect(resolveQueues(client, config({ APP_ENV: 'staging' }))).rejects.toThrow(
        'queue "orders-dead" (ORDER_DLQ_NAME) does not exist',
      );
    });

    it('resolveQueues, in development without an emulator, creates nothing on AWS', async () => {
      const send = vi
        .spyOn(client, 'send')
        .mockImplementation(() => Promise.reject(new QueueDoesNotExist({ message: 'none', $metadata: {} })));
      const onAws = { ...config(), AWS_ENDPOINT_URL: 'aws' as const };
      await expect(resolveQueues(client, onAws)).rejects.toThrow('does not exist in ap-northeast-2');
      expect(send).toHaveBeenCalledTimes(2);
    });

    it('resolveQueues, when nobody answers at the endpoint, says where it looked and which variables say so', async () => {
      const gone = emulator.endpoint;
      await emulator.stop();
      const failure = await resolveQueues(client, config()).catch((error: unknown) => error);
      expect(failure).toBeInstanceOf(StartupError);
      expect((failure as Error).message).toContain(`cannot work with ${gone}: ECONNREFUSED`);
      expect((failure as Error).message).toContain('(AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL, AWS_REGION)');
      emulator = await startEmulator({ port: 0 });
    });

    it('resolveQueues, in development with nothing set and nobody there, says how to get an emulator, and how AWS', async () => {
      vi.spyOn(client, 'send').mockImplementation(() =>
        Promise.reject(Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })),
      );
      await expect(resolveQueues(client, { ...config(), AWS_ENDPOINT_URL: undefined })).rejects.toThrow(
        /^cannot work with http:\/\/127.0.0.1:4566: ECONNREFUSED: .*npm start runs an emulator there; AWS_ENDPOINT_URL=aws means AWS/,
      );
    });

    it('resolveQueues, given an endpoint with a password that is not there, does not show it', async () => {
      vi.spyOn(client, 'send').mockImplementation(() => Promise.reject(new Error('no')));
      const hidden = { ...config(), AWS_ENDPOINT_URL: 'http://user:hunter2@127.0.0.1:1/?key=hunter2' };
      await expect(resolveQueues(client, hidden)).rejects.toThrow(/^cannot work with http:\/\/127.0.0.1:1: /);
    });

    it('resolveQueues, with a profile that there is not, reports it', async () => {
      // As the SDK says it, whatever AWS_PROFILE is.
      const missing = Object.assign(new Error('Could not load credentials from any providers'), {
        name: 'CredentialsProviderError',
      });
      vi.spyOn(client, 'send').mockImplementation(() => Promise.reject(missing));
      const given = { ...config({ APP_ENV: 'production' }), AWS_PROFILE: 'nope' };
      await expect(resolveQueues(client, given)).rejects.toThrow(
        'no AWS credentials: the profile "nope" (AWS_PROFILE) is not there, or has none',
      );
    });

    it('resolveQueues, without credentials, says how to give some', async () => {
      for (const name of Object.keys(process.env).filter((name) => name.startsWith('AWS_')))
        vi.stubEnv(name, undefined);
      vi.stubEnv('AWS_EC2_METADATA_DISABLED', 'true');
      vi.stubEnv('AWS_CONFIG_FILE', '/nonexistent/config');
      vi.stubEnv('AWS_SHARED_CREDENTIALS_FILE', '/nonexistent/credentials');
      const anonymous = new SQSClient({ region: 'ap-northeast-2', endpoint: emulator.endpoint });
      try {
        const failure = resolveQueues(anonymous, config({ APP_ENV: 'production' }));
        await expect(failure).rejects.toThrow(StartupError);
        await expect(failure).rejects.toThrow(
          'no AWS credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
        );
      } finally {
        anonymous.destroy();
        vi.unstubAllEnvs();
      }
    });

    it('resolveQueues, when it is refused for a reason of AWS, names that', async () => {
      const denied = Object.assign(new Error('not authorized to perform sqs:GetQueueUrl'), {
        name: 'AccessDenied',
      });
      vi.spyOn(client, 'send').mockImplementation(() => Promise.reject(denied));
      await expect(resolveQueues(client, { ...config(), AWS_ENDPOINT_URL: 'aws' })).rejects.toThrow(
        'cannot work with SQS in ap-northeast-2: AccessDenied: not authorized to perform sqs:GetQueueUrl',
      );
    });
  });
});

describe('queue definitions', () => {
  it('dead-letter queue, given any environment, keeps messages longer than the queue', () => {
    for (const appEnv of ['dev', 'staging', 'production'] as const) {
      const dead = Number(deadLetterQueueDefinition(appEnv, 'd').attributes.MessageRetentionPeriod);
      const live = Number(orderQueueDefinition(appEnv, 'q', 'arn').attributes.MessageRetentionPeriod);
      expect([live, dead]).toEqual([4 * 86_400, 14 * 86_400]);
    }
  });

  it('order queue, given any message that it takes, leaves room for a reason in the dead-letter queue', () => {
    const dead = Number(deadLetterQueueDefinition('dev', 'd').attributes.MaximumMessageSize);
    expect(dead - Number(orderQueueDefinition('dev', 'q', 'arn').attributes.MaximumMessageSize)).toBe(
      8 * 1024,
    );
  });
});
