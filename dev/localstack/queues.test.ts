import { commonFields } from '@orders/shared/runtime/config.ts';
import { deadLetterQueueDefinition, orderQueueDefinition } from '@orders/shared/sqs/queues.ts';
import { expect, test } from 'vitest';

/** LocalStack's hook cannot read TypeScript, so it gets a copy; `npm run test:unit -- -u` writes it anew. */
test("the queues of LocalStack's hook are those of shared/src/sqs/queues.ts", async () => {
  const region = commonFields.AWS_REGION.parse(undefined);
  const deadLetterQueue = deadLetterQueueDefinition('dev', commonFields.ORDER_DLQ_NAME.parse(undefined));
  // The account that LocalStack gives to all who do not choose one.
  const arn = `arn:aws:sqs:${region}:000000000000:${deadLetterQueue.name}`;
  const queue = orderQueueDefinition('dev', commonFields.ORDER_QUEUE_NAME.parse(undefined), arn);

  const definition = `${JSON.stringify({ region, queues: [deadLetterQueue, queue] }, null, 2)}\n`;
  await expect(definition).toMatchFileSnapshot('./ready.d/queues.json');
});
