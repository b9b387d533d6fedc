import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { eventually } from '../support/eventually.ts';
import { clusterAvailable, freshNamespace, kubectlFor, type Resource } from './cluster.ts';
import { customResourceDefinitions, kustomize } from './tools.ts';

const NAMESPACE = 'order-validation';
const DEPLOYER = ['--as=pipeline', '--as-group=order-deployers'];
const ROLLBACK = ['--as=pipeline', '--as-group=order-rollback'];
const kubectl = kubectlFor();
const cluster = await clusterAvailable();

/** What an API server says to the manifests: defaulting, validation, admission. Nothing of them is kept. */
describe.skipIf(!cluster.available)(`manifests, on a real API server (${cluster.reason})`, () => {
  let namespace: AsyncDisposable;

  beforeAll(async () => {
    for (const definition of await customResourceDefinitions()) {
      // Those of an operator that is there stay as they are.
      if (await kubectl('get', 'crd', definition.metadata.name, '--ignore-not-found')) continue;
      // Server-side: KEDA's are larger than the annotation that an ordinary apply leaves.
      await kubectl.withInput(JSON.stringify(definition), 'apply', '--server-side', '-f', '-');
      const established = ['--for=condition=Established', `crd/${definition.metadata.name}`];
      // A CRD that was made a moment ago has no conditions at all, which kubectl takes for an error.
      await eventually(() => kubectl('wait', ...established, '--timeout=30s'));
    }
    namespace = await freshNamespace('test/k8s/order-validation.yaml');
  });
  afterAll(() => namespace?.[Symbol.asyncDispose]());

  it.each(['dev', 'staging', 'production'])('overlay %s is taken without a warning', async (overlay) => {
    const said = await applyDry(overlay);
    expect(said.split('\n').filter((line) => !line.endsWith('created (server dry run)'))).toEqual(['']);
  });

  describe("the deployer's role", () => {
    beforeAll(async () => {
      await kubectl('apply', '-n', NAMESPACE, '-k', 'k8s/deployer');
    });

    it.each([
      ['yes', 'patch deployments'],
      ['yes', 'delete deployments'],
      ['yes', 'patch deployments --subresource=scale'],
      ['yes', 'patch services'],
      ['yes', 'delete services'],
      ['yes', 'create configmaps'],
      ['yes', 'patch scaledobjects.keda.sh'],
      ['yes', 'create horizontalpodautoscalers.autoscaling'],
      ['yes', 'create ingresses.networking.k8s.io'],
      ['yes', 'create podmonitors.monitoring.coreos.com'],
      ['yes', 'create externalsecrets.external-secrets.io'],
      ['yes', 'patch leases.coordination.k8s.io'],
      ['yes', 'create services --subresource=proxy'],
      ['yes', 'get pods --subresource=log'],
      ['no', 'get secrets'],
      ['no', 'list secrets'],
      ['no', 'create secrets'],
      ['no', 'create pods'],
      ['no', 'delete pods'],
      ['no', 'create pods --subresource=exec'],
      ['no', 'create pods --subresource=portforward'],
      ['no', 'create pods --subresource=ephemeralcontainers'],
      ['no', 'create rolebindings.rbac.authorization.k8s.io'],
      ['no', 'patch roles.rbac.authorization.k8s.io'],
      ['no', 'create serviceaccounts --subresource=token'],
      ['no', 'delete configmaps'],
      ['no', 'delete namespaces'],
      ['no', 'delete scaledobjects.keda.sh'],
      ['no', 'delete poddisruptionbudgets.policy'],
    ])('%s: %s', async (answer, what) => {
      expect(await canI(NAMESPACE, what)).toBe(answer);
    });

    it.each([
      ['yes', 'patch deployments/order-producer'],
      ['yes', 'delete deployments/order-consumer-candidate'],
      ['yes', 'patch services'],
      ['yes', 'delete services/order-producer-preview'],
      ['yes', 'patch networkpolicies.networking.k8s.io'],
      ['yes', 'patch leases.coordination.k8s.io'],
      ['yes', 'get pods --subresource=proxy'],
      ['no', 'create deployments'],
      ['no', 'patch deployments/another'],
      ['no', 'delete deployments/order-producer'],
      ['no', 'delete services/order-producer'],
      ['no', 'create configmaps'],
      ['no', 'create services'],
      ['no', 'get secrets'],
      ['no', 'create pods --subresource=exec'],
    ])('going back, %s: %s', async (answer, what) => {
      expect(await canI(NAMESPACE, what, ROLLBACK)).toBe(answer);
    });

    it('in other namespaces it may do nothing', async () => {
      expect(await canI('default', 'get deployments')).toBe('no');
      expect(await canI('kube-system', 'get namespaces')).toBe('no');
    });

    it('what the overlays hold, it may apply', async () => {
      await applyDry('staging', ...DEPLOYER);
    });
  });
});

/** Everything in the overlay, but in the test's own namespace. Answers what kubectl said, warnings too. */
async function applyDry(overlay: string, ...as: string[]): Promise<string> {
  const items = parseAllDocuments(await kustomize(`k8s/overlays/${overlay}`))
    .map((document) => document.toJS() as Resource)
    .filter(({ kind }) => kind !== 'Namespace')
    .map((resource) => ({ ...resource, metadata: { ...resource.metadata, namespace: NAMESPACE } }));
  const list = JSON.stringify({ apiVersion: 'v1', kind: 'List', items });
  return kubectl.withInput(list, 'apply', '--dry-run=server', '--validate=strict', '-f', '-', ...as);
}

/** `kubectl auth can-i` ends with 1 when the answer is no. */
async function canI(namespace: string, what: string, as = DEPLOYER): Promise<string> {
  const answer = await kubectl('auth', 'can-i', ...what.split(' '), '-n', namespace, ...as).catch(
    (error: { stdout?: string }) => error.stdout ?? '',
  );
  return answer.trim().split(' ')[0] ?? '';
}
