import { describe, expect, test } from 'vitest';
import { Kubectl } from './kubectl.ts';
import { checkNamespace, describeSituation } from './live.ts';
import { halfWay } from './testing/staging.ts';

const saying = (stderr: string) => new Kubectl('staging', async () => ({ status: 1, stdout: '', stderr }), 0);

describe('namespace', () => {
  test.each([
    [
      'is missing',
      'Error from server (NotFound): namespaces "staging" not found',
      'NOT_FOUND',
      'kubectl apply -f k8s/overlays/staging/namespace.yaml',
    ],
    [
      'may not be seen',
      'Error from server (Forbidden): namespaces is forbidden',
      'FORBIDDEN',
      'kubectl apply -n staging -k k8s/deployer',
    ],
    ['is out of reach', 'The connection to the server was refused', 'UNREACHABLE', 'refused'],
    [
      'is asked with an expired token',
      'error: You must be logged in to the server',
      'UNAUTHORIZED',
      'logged in',
    ],
  ])('that %s stops a command with what to do', async (_what, stderr, code, message) => {
    await expect(checkNamespace(saying(stderr))).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message),
    });
  });
});

test('situation, of a deployment that broke off, names all Deployments and where orders go', async () => {
  const { cluster } = await halfWay();
  expect(await describeSituation(cluster.kubectl)).toEqual([
    'deployment/order-producer: release v1, 2 of 2 available',
    'deployment/order-producer-candidate: release v2, 2 of 2 available',
    'deployment/order-consumer: release v2, 2 of 2 available',
    'service/order-producer: traffic to stable',
  ]);
});
