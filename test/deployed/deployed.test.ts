import { afterAll, beforeAll, describe } from 'vitest';
import { type KubectlProxy, openKubectlProxy } from '../../scripts/kubectl-proxy.ts';
import { describeDeployed } from './scenarios.ts';

/**
 * What runs in the namespace DEPLOYED_NAMESPACE of the cluster that kubectl is set to, through the API server; or at
 * DEPLOYED_PRODUCER_URL and DEPLOYED_CONSUMER_URL, those of `npm start` by default.
 */
const namespace = process.env['DEPLOYED_NAMESPACE'];
const producerUrl = process.env['DEPLOYED_PRODUCER_URL'] || 'http://localhost:8080';
const consumerUrl = process.env['DEPLOYED_CONSUMER_URL'] || 'http://localhost:8081';

describe(`scenarios of a deployment, on ${namespace ? `namespace ${namespace}` : producerUrl}`, () => {
  let proxy: KubectlProxy | undefined;
  beforeAll(async () => {
    if (namespace) proxy = await openKubectlProxy(namespace);
  });
  afterAll(() => proxy?.[Symbol.asyncDispose]());

  describeDeployed(() =>
    proxy
      ? { producerUrl: proxy.service('order-producer'), consumerUrl: proxy.service('order-consumer') }
      : { producerUrl, consumerUrl },
  );
});
