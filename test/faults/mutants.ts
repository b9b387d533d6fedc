import type { ViolationCode } from './invariants.ts';

/** A way to break the code on purpose. `find` must be in the file exactly once. */
export type Mutation = {
  name: string;
  expected: ViolationCode;
  /** Under which fault the campaign looks for it. */
  fault: string;
  edits: { file: string; find: string; replace: string }[];
};

const CONSUMER = 'consumer/src/consume/order-consumer.ts';
const POLLER = 'consumer/src/consume/receive/poller.ts';
const SETTLER = 'consumer/src/consume/settle/settler.ts';
const PACKED_SETTLER = 'consumer/src/consume/settle/packed-settler.ts';
const RETRY_POLICY = 'consumer/src/consume/settle/retry-policy.ts';
const DEAD_LETTERS = 'consumer/src/consume/settle/dead-letter-sender.ts';
const FAILURES = 'consumer/src/consume/settle/failure-counter.ts';
const READ = 'consumer/src/consume/read-messages.ts';
const STORE_ORDERS = 'consumer/src/domain/store-orders.ts';
const SQLITE = 'consumer/src/adapters/sqlite-order-repository.ts';
const ROW = 'consumer/src/adapters/order-row.ts';

export const MUTATIONS: readonly Mutation[] = [
  {
    name: 'encrypted message of this environment taken for one of another',
    // Not WRONGLY_DEAD_LETTERED: the campaign reads dead letters with the same code.
    expected: 'LOST',
    fault: 'producer stopped',
    edits: [
      {
        file: 'shared/src/encryption/message-cipher.ts',
        find: 'if (!isDeepStrictEqual({ ...found }, encryptionContext))',
        replace: 'if (isDeepStrictEqual({ ...found }, encryptionContext))',
      },
    ],
  },
  {
    name: 'packed message deleted though some of its orders are not stored',
    expected: 'LOST',
    fault: 'flood of conflicts, packed',
    edits: [
      {
        file: PACKED_SETTLER,
        find: '.filter(([, { outcome }]) => !isStored(outcome))',
        replace: '.filter(([, { outcome }]) => !outcome)',
      },
    ],
  },
  {
    name: 'message deleted before its order is committed',
    expected: 'LOST',
    fault: 'disk full',
    edits: [
      {
        file: CONSUMER,
        find: '    const leases = await this.#lease(messages, requestedAtMs);\n',
        replace: `    const leases = await this.#lease(messages, requestedAtMs);
    await Promise.all(leases.map(({ message }) => this.#options.acknowledger.delete(message.receiptHandle)));
`,
      },
    ],
  },
  {
    name: 'order deduplicated by the id of its message',
    expected: 'STORED_TWICE',
    fault: 'producer stopped',
    edits: [
      {
        file: READ,
        find: '    return {\n      body,\n      order,\n',
        replace: '    return {\n      messageId: message.messageId,\n      body,\n      order,\n',
      },
      {
        file: ROW,
        find: 'for (const { order, contentHash, traceId, clientId } of orders)',
        replace: 'for (const { messageId, order, contentHash, traceId, clientId } of orders as any)',
      },
      {
        file: ROW,
        find: '      trace_id: traceId,\n',
        replace: '      trace_id: traceId,\n      message_id: messageId,\n',
      },
      {
        file: 'consumer/src/adapters/migrations.ts',
        find: 'order_id TEXT PRIMARY KEY NOT NULL,',
        replace: 'order_id TEXT NOT NULL, message_id TEXT PRIMARY KEY NOT NULL,',
      },
      {
        file: SQLITE,
        find: `(order_id, customer_id, created_at_ms, content_hash, trace_id, client_id, data)
       VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (order_id) DO NOTHING`,
        replace: `(order_id, customer_id, created_at_ms, content_hash, trace_id, client_id, data, message_id)
       VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (message_id) DO NOTHING`,
      },
      {
        file: SQLITE,
        find: '          data,\n        );',
        replace: '          data,\n          (row as any).message_id,\n        );',
      },
    ],
  },
  {
    name: 'conflict taken for a duplicate',
    expected: 'LOST',
    fault: 'producer stopped',
    edits: [
      {
        file: 'consumer/src/domain/save-results.ts',
        find: "isSameOrder(first, order) ? 'duplicate' : 'conflict'",
        replace: "'duplicate'",
      },
    ],
  },
  {
    name: 'conflict overwrites the stored order',
    expected: 'LOST',
    fault: 'producer stopped',
    edits: [
      {
        file: SQLITE,
        find: 'ON CONFLICT (order_id) DO NOTHING',
        replace:
          'ON CONFLICT (order_id) DO UPDATE SET content_hash = excluded.content_hash, data = excluded.data',
      },
    ],
  },
  {
    name: 'poll aborted at stop',
    expected: 'NOT_DRAINED',
    fault: 'producer stopped',
    edits: [
      {
        file: POLLER,
        find: '    while (!stop.aborted) {',
        replace: '    (this as any).stop = stop;\n    while (!stop.aborted) {',
      },
      {
        file: POLLER,
        find: `{ AttributeNames: ['All' as const] } : {}),
      }),
`,
        replace: `{ AttributeNames: ['All' as const] } : {}),
      }),
      { abortSignal: (this as any).stop },
`,
      },
    ],
  },
  {
    name: 'outage of the store counted as a failure of the message',
    expected: 'WRONGLY_FAILED',
    fault: 'database locked',
    edits: [
      {
        file: STORE_ORDERS,
        find: 'return STORE_UNAVAILABLE;',
        replace: "return { kind: 'retry', error };",
      },
    ],
  },
  {
    name: 'failures of a message not counted',
    expected: 'WRONGLY_DEAD_LETTERED',
    fault: 'producer stopped',
    edits: [{ file: FAILURES, find: '    this.#failures.set(messageId, failures);\n', replace: '' }],
  },
  {
    name: 'message given up at its first failure',
    expected: 'WRONGLY_DEAD_LETTERED',
    fault: 'producer stopped',
    edits: [
      {
        file: RETRY_POLICY,
        find: 'failures.add(message.messageId) >= maxFailures',
        replace: 'failures.add(message.messageId) >= 1',
      },
    ],
  },
  {
    name: 'receives counted as failures',
    expected: 'WRONGLY_DEAD_LETTERED',
    fault: 'delivered three times',
    edits: [
      {
        file: RETRY_POLICY,
        find: 'failures.add(message.messageId) >= maxFailures',
        replace: '(failures.add(message.messageId), message.receiveCount) >= maxFailures',
      },
    ],
  },
  {
    name: 'refusal of one order taken for an outage of the store',
    expected: 'STARVED',
    fault: 'database locked',
    edits: [
      {
        file: SQLITE,
        find: "new OrderRefusedByRuleError('a rule in SQLite refused an order', about)",
        replace: 'unavailable(cause) as any',
      },
    ],
  },
  {
    name: '202 before SQS has confirmed',
    expected: 'LOST',
    fault: 'SQS unreachable',
    edits: [
      {
        file: 'producer/src/adapters/sqs-order-publisher.ts',
        find: 'await (packs ? this.#packer.add(entry) : this.#sendAlone(entry));',
        replace: 'early(packs ? this.#packer.add(entry) : this.#sendAlone(entry));',
      },
      {
        file: 'producer/src/adapters/sqs-order-publisher.ts',
        find: 'export type SqsOrderPublisherOptions',
        replace: `const early = (sending: Promise<unknown>) => {
  sending.catch(() => {});
  return { messageId: '' };
};

export type SqsOrderPublisherOptions`,
      },
    ],
  },
  {
    name: '202 before its line is in the acceptance journal',
    expected: 'NOT_JOURNALED',
    fault: 'producer killed',
    edits: [
      {
        file: 'producer/src/domain/place-order.ts',
        find: 'await journal.record({',
        // As a journal that is buffered would write it.
        replace: 'setTimeout(journal.record.bind(journal), 250, {',
      },
    ],
  },
  {
    name: 'failed entries of a 200 answer taken for sent',
    expected: 'LOST',
    fault: 'batches fail in part',
    edits: [
      {
        file: 'shared/src/sqs/batch.ts',
        find: 'new BatchEntryError(failed.get(id) ?? NOT_ANSWERED)',
        replace: '({ Id: id } as S)',
      },
    ],
  },
  {
    name: 'rejected message deleted without a copy in the DLQ',
    expected: 'LOST',
    fault: 'consumer stopped',
    edits: [
      {
        file: SETTLER,
        find: '      await deadLetters.send({ lease, message }, outcome, order);\n',
        replace: '',
      },
    ],
  },
  {
    name: 'amounts rounded on their way into the table',
    expected: 'ALTERED',
    fault: 'consumer stopped',
    edits: [
      {
        file: ROW,
        find: 'data: JSON.stringify(order)',
        replace: 'data: JSON.stringify({ ...order, totalAmount: Math.round(order.totalAmount / 10) * 10 })',
      },
    ],
  },
  {
    name: 'orders whose total is wrong accepted',
    expected: 'NOT_SENT',
    fault: 'consumer stopped',
    edits: [
      {
        file: 'shared/src/order/order.ts',
        find: '  if (!problem) return;',
        replace: '  if (problem || !problem) return;',
      },
    ],
  },
  {
    name: 'look-up leaves metadata out',
    expected: 'LOOK_UP_DIFFERS',
    fault: 'consumer stopped',
    edits: [
      {
        file: 'consumer/src/http/order-routes.ts',
        find: "return { ...order, state: 'STORED'",
        replace: "return { ...order, metadata: undefined, state: 'STORED'",
      },
    ],
  },
  {
    name: 'leases never closed',
    expected: 'NOT_SETTLED',
    fault: 'consumer stopped',
    edits: [
      {
        file: 'consumer/src/consume/lease.ts',
        find: 'leases.filter((lease) => this.#leases.delete(lease))',
        replace: 'leases.filter((lease) => this.#leases.has(lease))',
      },
    ],
  },
  {
    name: 'breaker that never tries again',
    expected: 'NOT_READY',
    fault: 'SQS unreachable',
    edits: [
      {
        file: 'shared/src/runtime/circuit-breaker.ts',
        find: 'maxDelay: options.openMs.max',
        replace: 'initialDelay: 1e9, maxDelay: 1e9',
      },
    ],
  },
  {
    name: 'failed poll ends the process',
    expected: 'CRASHED',
    fault: 'SQS answers 500',
    edits: [{ file: POLLER, find: '      metrics.pollErrors.inc();\n', replace: '      throw err;\n' }],
  },
  {
    name: 'stop that goes on polling and waits for its end',
    expected: 'BAD_STOP',
    fault: 'consumer stopped',
    edits: [
      { file: CONSUMER, find: '    this.#stop.abort();\n', replace: '' },
      {
        file: CONSUMER,
        find: '    if (!(await inTime(this.#finishWork(), endBy - flushMs))) {',
        replace: '    if (!(await this.#finishWork().then(() => true))) {',
      },
    ],
  },
  {
    name: 'each poll leaves a file open',
    expected: 'LEAK',
    fault: 'producer stopped',
    edits: [
      {
        file: POLLER,
        find: '    const requestedAtMs = performance.now();\n',
        replace:
          "    const requestedAtMs = performance.now();\n    (await import('node:fs')).openSync('/dev/null', 'r');\n",
      },
    ],
  },
  {
    name: 'an unconfirmed order answered with 500',
    expected: 'ODD_ANSWER',
    fault: 'SQS unreachable',
    edits: [
      {
        file: 'shared/src/http/problem.ts',
        find: "'queue-unavailable': [503,",
        replace: "'queue-unavailable': [500,",
      },
    ],
  },
  {
    name: 'what was sent, and confirmed, sent again',
    expected: 'DEAD_LETTERED_TWICE',
    fault: 'producer stopped',
    edits: [
      {
        file: 'shared/src/sqs/message-sender.ts',
        find: 'await sendEntries(wanted, this.#request) :',
        replace: `await sendEntries(wanted, this.#request).then(() => sendEntries(wanted, this.#request)) :`,
      },
    ],
  },
  {
    name: 'place given back before the copy is in the DLQ',
    expected: 'OVER_LIMIT',
    fault: 'DLQ hangs',
    edits: [
      {
        file: CONSUMER,
        find: '        await settler.settle(message);\n        admission.release(1);\n',
        replace: '        admission.release(1);\n        await settler.settle(message);\n',
      },
    ],
  },
  {
    name: 'every order kept in memory for ever',
    expected: 'TOO_MUCH_MEMORY',
    fault: 'producer stalled',
    edits: [
      {
        file: READ,
        find: '    return {\n      body,\n      order,\n',
        replace: `    ((globalThis as any).kept ??= []).push(Buffer.alloc(4_000_000, 1));
    return {
      body,
      order,
`,
      },
    ],
  },
  {
    name: 'archive cut short after it was read back',
    expected: 'ARCHIVE_UNREADABLE',
    fault: 'retention',
    edits: [
      {
        file: 'scripts/retention/archive.ts',
        find: '      await rename(temporary, file);\n',
        replace: `      await rename(temporary, file);
      await (await import('node:fs/promises')).truncate(file, 200);
`,
      },
    ],
  },
  {
    name: 'rejection not recorded',
    expected: 'WRONG_FATE',
    fault: 'flood of conflicts',
    edits: [{ file: DEAD_LETTERS, find: 'if (claimed) fates.record', replace: 'if (!claimed) fates.record' }],
  },
  {
    name: 'redrive that waits for more',
    expected: 'TOOL_FAILED',
    fault: 'two redrives',
    edits: [
      {
        file: 'consumer/src/dlq/dead-letter-queue.ts',
        find: 'nothingNew < READ_TRIES && later < LATER_TRIES && most() > 0;',
        replace: 'most() > 0;',
      },
    ],
  },
  {
    name: 'client left out of the message',
    expected: 'WRONG_CLIENT',
    fault: 'producer stopped',
    edits: [
      {
        file: 'producer/src/domain/place-order.ts',
        find: 'traceparent: formatTraceparent(trace), clientId }',
        replace: 'traceparent: formatTraceparent(trace) }',
      },
    ],
  },
  {
    name: 'orders of all clients packed together',
    expected: 'CLIENTS_MIXED',
    fault: 'SQS slow',
    edits: [
      {
        file: 'producer/src/adapters/sqs-order-publisher.ts',
        find: 'if (byClient.size === 1) return',
        replace: 'if (byClient.size > 0) return',
      },
    ],
  },
  {
    name: 'an unconfirmed order not answered',
    expected: 'UNANSWERED',
    fault: 'SQS unreachable',
    edits: [
      {
        file: 'producer/src/http/order-routes.ts',
        find: '      throw new ProblemError(KIND_OF_REFUSAL',
        replace: '      await new Promise(() => {});\n      throw new ProblemError(KIND_OF_REFUSAL',
      },
    ],
  },
];
