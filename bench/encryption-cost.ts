import { randomUUID } from 'node:crypto';
import type { MessageCipher } from '@orders/shared/encryption/message-cipher.ts';
import { decryptMessages, encryptMessages } from '@orders/shared/order/encrypted-message.ts';
import { decodeOrderMessage, type EncodedMessage } from '@orders/shared/order/message.ts';
import type { Order } from '@orders/shared/order/order.ts';
import { MAX_PACKED_ORDERS, packMessages, unpackMessages } from '@orders/shared/order/packed-message.ts';
import { aCipher, aKeyFile } from '@orders/shared/testing/cipher.ts';
import { messageOf, orderOf, TRACEPARENT } from './orders.ts';

// What encryption costs: CPU of making and reading the messages of 10,000 orders of 500 bytes, in this process, with a key
// in a file. Plain and encrypted by turns, so that what else the machine does meets both. `node bench/encryption-cost.ts`

const ORDERS = 10_000;
const ROUNDS = 7;

type Way = {
  write: (orders: Order[]) => Promise<EncodedMessage>;
  read: (body: string) => Promise<string[]> | string[];
};

function ways(cipher: MessageCipher): Record<'plain' | 'encrypted', Way> {
  return {
    plain: {
      write: async (orders) => {
        const messages = await Promise.all(orders.map(messageOf));
        return messages.length === 1
          ? (messages[0] as EncodedMessage)
          : packMessages(messages.map(({ body }) => body));
      },
      read: unpackMessages,
    },
    encrypted: {
      write: async (orders) => {
        const messages = await Promise.all(orders.map(messageOf));
        const lines = messages.map(({ body }, index) => ({
          body,
          orderId: orders[index]?.orderId,
          traceparent: TRACEPARENT,
        }));
        return encryptMessages(lines, cipher);
      },
      read: async (body) => (await decryptMessages(body, cipher)) ?? [],
    },
  };
}

/** CPU in ms, of all threads, to write and to read that many orders, so many to a message. */
async function costOf({ write, read }: Way, perMessage: number): Promise<number> {
  const orders = Array.from({ length: ORDERS }, () => orderOf(randomUUID()));
  const before = process.cpuUsage();
  let found = 0;
  for (let at = 0; at < ORDERS; at += perMessage) {
    const { body } = await write(orders.slice(at, at + perMessage));
    for (const part of await read(body)) {
      decodeOrderMessage(part, {}, { packed: perMessage > 1 });
      found++;
    }
  }
  if (found !== ORDERS) throw new Error(`${found} of ${ORDERS} orders were read`);
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1_000;
}

const median = (values: number[]) =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

using keys = aKeyFile();
const rssBefore = process.memoryUsage.rss();
const cipher = await aCipher(keys.env);
console.log(`loaded: RSS + ${Math.round((process.memoryUsage.rss() - rssBefore) / 1_048_576)} MB`);
const { plain, encrypted } = ways(cipher);
for (const [name, perMessage] of [
  ['single', 1],
  ['packed', MAX_PACKED_ORDERS],
] as const) {
  await costOf(plain, perMessage);
  await costOf(encrypted, perMessage);
  const rounds: { plain: number; encrypted: number }[] = [];
  for (let round = 0; round < ROUNDS; round++)
    rounds.push({ plain: await costOf(plain, perMessage), encrypted: await costOf(encrypted, perMessage) });
  const ratios = rounds.map((round) => round.encrypted / round.plain).toSorted((a, b) => a - b);
  const of = (way: 'plain' | 'encrypted') => `${Math.round(median(rounds.map((round) => round[way])))} ms`;
  console.log(
    `${name}: ${of('plain')} plain, ${of('encrypted')} encrypted, × ${median(ratios).toFixed(2)} (${ratios[0]?.toFixed(2)} to ${ratios.at(-1)?.toFixed(2)})`,
  );
}
cipher.close();
