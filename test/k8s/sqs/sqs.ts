import { readFileSync } from 'node:fs';
import { buildApp } from 'fauxqs';

/** Runs in a pod, with the hook of LocalStack mounted: the queues are those that LocalStack would create. */
const DEFINITION = '/etc/localstack/init/ready.d/queues.json';

type Definition = { region: string; queues: { name: string; attributes: Record<string, string> }[] };

const { region, queues } = JSON.parse(readFileSync(DEFINITION, 'utf8')) as Definition;
const app = buildApp({ logger: false, defaultRegion: region });
for (const { name, attributes } of queues) {
  const { statusCode, body } = await app.inject({
    method: 'POST',
    url: '/',
    headers: { 'content-type': 'application/x-amz-json-1.0', 'x-amz-target': 'AmazonSQS.CreateQueue' },
    payload: JSON.stringify({ QueueName: name, Attributes: attributes }),
  });
  if (statusCode !== 200) throw new Error(`${name}: ${body}`);
}
await app.listen({ host: '0.0.0.0', port: 4566 });
process.once('SIGTERM', () => process.exit());
