import { type SQSClient, SQSServiceException } from '@aws-sdk/client-sqs';
import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { describe, expect, it } from 'vitest';
import { auditFairQueues } from './fair-queues.ts';

type Answers = Partial<Record<string, (input: Record<string, unknown>) => unknown>>;

const refuse = (name: string) => () => {
  throw new SQSServiceException({ name, $fault: 'client', $metadata: {} });
};

/** An endpoint that answers as told, and what it was asked. */
function anEndpoint(answers: Answers) {
  const asked: string[] = [];
  let groupId: unknown;
  const byDefault: Answers = {
    CreateQueueCommand: ({ QueueName }) => ({ QueueUrl: `http://q/${QueueName}` }),
    SendMessageCommand: ({ MessageGroupId }) => {
      groupId = MessageGroupId;
      return {};
    },
    ReceiveMessageCommand: () => ({ Messages: [{ Attributes: { MessageGroupId: groupId } }] }),
    DeleteQueueCommand: () => ({}),
  };
  const send = async (command: { constructor: { name: string }; input: Record<string, unknown> }) => {
    asked.push(command.constructor.name);
    return (answers[command.constructor.name] ?? byDefault[command.constructor.name])?.(command.input);
  };
  return { asked, client: { send } as unknown as SQSClient };
}

const EMULATOR = 'http://127.0.0.1:4566';
const PROBED = ['CreateQueueCommand', 'SendMessageCommand', 'ReceiveMessageCommand', 'DeleteQueueCommand'];

describe('auditFairQueues', () => {
  it.each([undefined, 'https://vpce-0a1b.sqs.ap-northeast-2.vpce.amazonaws.com'])(
    'auditFairQueues, of AWS (%s), asks nothing and says nothing',
    async (endpoint) => {
      const { asked, client } = anEndpoint({});
      const { logger, lines } = captureLog();
      expect(await auditFairQueues(client, endpoint, logger)).toBe(true);
      expect([asked, lines]).toEqual([[], []]);
    },
  );

  it.each<[string, Answers, boolean, string, RegExp]>([
    ['keeps the group', {}, true, 'INFO', /^the endpoint keeps/],
    ['drops the group', { ReceiveMessageCommand: () => ({ Messages: [{}] }) }, true, 'WARN', /drops/],
    [
      'refuses it',
      { SendMessageCommand: refuse('InvalidParameterValue') },
      false,
      'WARN',
      /refuses.*without/,
    ],
    ['is too busy to say', { SendMessageCommand: refuse('RequestThrottled') }, true, 'WARN', /not be tried/],
  ])(
    'auditFairQueues, of an endpoint that %s, says so, and leaves no queue',
    async (_, answers, sends, level, finding) => {
      const { asked, client } = anEndpoint(answers);
      const { logger, lines } = captureLog();
      expect(await auditFairQueues(client, EMULATOR, logger)).toBe(sends);
      expect(lines).toMatchObject([
        { level, finding: expect.stringMatching(finding), message: 'queue audit' },
      ]);
      expect(asked.at(-1)).toBe('DeleteQueueCommand');
      expect(PROBED).toEqual(expect.arrayContaining(asked));
    },
  );

  it('auditFairQueues, without the right to make a queue, says that it could not be tried', async () => {
    const { asked, client } = anEndpoint({ CreateQueueCommand: refuse('AccessDenied') });
    const { logger, lines } = captureLog();
    expect(await auditFairQueues(client, EMULATOR, logger)).toBe(true);
    expect(lines).toMatchObject([{ level: 'WARN', finding: expect.stringMatching(/could not be tried/) }]);
    expect(asked).toEqual(['CreateQueueCommand']);
  });
});
