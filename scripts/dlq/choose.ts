import { type DeadLetteredMessage, ofRelease } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { fingerprintOf, isReadable, MOVED_BY_SQS, read } from '@orders/consumer/dlq/diagnosis.ts';
import { openEnvelope } from '@orders/shared/order/message.ts';

/** Which dead letters are meant; all that are given must hold. */
export type Choice = {
  reason?: string | undefined;
  fingerprint?: string | undefined;
  /** That dead-lettered it; {@link Choice.since} and `until` alone leave out what SQS moved by itself. */
  'code-version'?: string | undefined;
  since?: Date | undefined;
  until?: Date | undefined;
  'schema-version'?: number | undefined;
  client?: string | undefined;
  customer?: string | undefined;
  readable?: boolean | undefined;
};

type Test = (letter: DeadLetteredMessage) => boolean;

export function chosen(choice: Choice): Test {
  const { reason, fingerprint, since, until, client, customer, readable } = choice;
  const { 'code-version': codeVersion, 'schema-version': version } = choice;
  const tests: (Test | undefined | false)[] = [
    codeVersion !== undefined && ofRelease(codeVersion),
    (since || until) &&
      (({ deadLetter }) => {
        const at = new Date(deadLetter?.deadLetteredAt ?? Number.NaN);
        return at >= (since ?? new Date(0)) && at <= (until ?? new Date(8.64e15));
      }),
    reason !== undefined && (({ deadLetter }) => (deadLetter?.reason ?? MOVED_BY_SQS) === reason),
    fingerprint !== undefined && ((letter) => fingerprintOf(letter) === fingerprint),
    version !== undefined && ((letter) => typeOf(letter) === `order.placed.v${version}`),
    client !== undefined && ((letter) => read(letter).some(({ claimed }) => claimed?.clientId === client)),
    customer !== undefined && ((letter) => customersIn(letter).includes(customer)),
    readable && ((letter) => isReadable(read(letter))),
  ];
  const given = tests.filter((test) => test !== undefined && test !== false);
  return (letter) => given.every((test) => test(letter));
}

function typeOf({ message }: DeadLetteredMessage): unknown {
  try {
    return Object(JSON.parse(message.body)).type;
  } catch {
    return undefined;
  }
}

/** Also of an order that breaks a rule. */
function customersIn(letter: DeadLetteredMessage): unknown[] {
  const orders = read(letter).flatMap(({ order }) => order ?? []);
  if (orders.length > 0) return orders.map(({ customerId }) => customerId);
  try {
    return [Object(openEnvelope(letter.message.body).data).customerId];
  } catch {
    return [];
  }
}
