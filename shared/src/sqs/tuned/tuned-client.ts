import { getFips, hash } from 'node:crypto';
import { type SendMessageBatchRequest, SQSClient, type SQSClientConfig } from '@aws-sdk/client-sqs';
import type { Logger } from '../../runtime/logger.ts';
import { CachingSigner } from './caching-signer.ts';
import { DirectPath } from './direct-path.ts';
import { type HttpLimits, UndiciHandler } from './undici-handler.ts';

export type TunedSqsClientOptions = {
  /** The same settings as the plain client's. */
  settings: SQSClientConfig;
  limits: HttpLimits;
  logger: Logger;
};

/**
 * The SDK's client, with its retries, credentials, endpoints and errors, but requests that succeed take a
 * fraction of its processor time. docs/adr/0009-tuned-sqs-client.md says how, and what differs.
 */
export function createTunedSqsClient({ settings, limits, logger }: TunedSqsClientOptions): SQSClient {
  const signer = new CachingSigner(() => client.config);
  const requestHandler = new UndiciHandler(limits);
  // With FIPS, Node has no MD5: only the SDK's normal path can check bodies, with its own MD5 in JavaScript.
  if (getFips() !== 0) return new SQSClient({ ...settings, requestHandler });
  const client: SQSClient = new SQSClient({ ...settings, requestHandler, signer, md5: false });
  const direct = new DirectPath(client, signer);
  const send = async (command: Parameters<SQSClient['send']>[0], options?: object): Promise<object> => {
    const output = await direct.send(command, options);
    verifyChecksums(command.input, output as Answer, logger);
    return output;
  };
  client.send = send as unknown as SQSClient['send'];
  return client;
}

type Answer = {
  Messages?: { MessageId?: string; Body?: string; MD5OfBody?: string }[];
  Successful?: { Id?: string; MD5OfMessageBody?: string }[];
  Failed?: object[];
  MD5OfMessageBody?: string;
};

/**
 * Leaves out messages damaged on the way, by SQS's MD5 of the body, and keeps the rest of the batch; the SDK fails all
 * ten. A damaged message is received again when its visibility time is over; a damaged sent one counts as failed.
 */
function verifyChecksums(input: object, answer: Answer, logger: Logger): void {
  if (answer.Messages) {
    const sound = answer.Messages.filter(({ Body, MD5OfBody }) => md5(Body) === MD5OfBody);
    if (sound.length === answer.Messages.length) return;
    const messageIds = answer.Messages.flatMap((message) =>
      sound.includes(message) ? [] : [message.MessageId],
    );
    logger.warn({ messageIds }, 'messages arrived damaged and were left in the queue');
    answer.Messages = sound;
  } else if (answer.Successful && isSendBatch(input)) {
    const bodies = new Map(input.Entries.map(({ Id, MessageBody }) => [Id, MessageBody]));
    const isSound = ({ Id, MD5OfMessageBody }: { Id?: string; MD5OfMessageBody?: string }) =>
      md5(bodies.get(Id)) === MD5OfMessageBody;
    const damaged = answer.Successful.filter((entry) => !isSound(entry));
    if (damaged.length === 0) return;
    answer.Successful = answer.Successful.filter(isSound);
    answer.Failed = [...(answer.Failed ?? []), ...damaged.map(({ Id }) => ({ Id, ...DAMAGED }))];
  } else if ('MessageBody' in input && md5(String(input.MessageBody)) !== answer.MD5OfMessageBody) {
    throw new Error(DAMAGED.Message);
  }
}

const isSendBatch = (input: object): input is { Entries: { Id?: string; MessageBody: string }[] } =>
  (input as SendMessageBatchRequest).Entries?.[0]?.MessageBody !== undefined;

const DAMAGED = {
  Code: 'ChecksumMismatch',
  SenderFault: false,
  Message: 'SQS took on another body than was sent',
};
const md5 = (body = '') => hash('md5', body);
