import { DeploymentError, hasCode } from './errors.ts';
import type { DeploymentObject, Kubectl, KubernetesObject, ServiceObject } from './kubectl.ts';
import {
  candidateName,
  type Running,
  type RunningReleases,
  releaseOf,
  SERVICES,
  type ServiceName,
  type Track,
} from './manifests.ts';

export type LiveDeployments = Record<ServiceName, DeploymentObject>;

/** The two Deployments, whether their pods serve or not; `undefined` where one is missing. */
export async function findLive(kubectl: Kubectl): Promise<LiveDeployments | undefined> {
  const [producer, consumer] = [
    await kubectl.find<DeploymentObject>('deployment', 'order-producer'),
    await kubectl.find<DeploymentObject>('deployment', 'order-consumer'),
  ];
  return producer && consumer && { 'order-producer': producer, 'order-consumer': consumer };
}

export const isAvailable = ({ status }: DeploymentObject) => (status?.availableReplicas ?? 0) > 0;

export const revisionOf = ({ metadata }: Pick<KubernetesObject, 'metadata'>) =>
  Number(metadata.annotations?.['deployment.kubernetes.io/revision'] ?? 0);

const runningOf = (deployment: DeploymentObject): Running => ({
  release: releaseOf(deployment),
  revision: revisionOf(deployment),
});
export const releasesOf = (live: LiveDeployments): RunningReleases => ({
  'order-producer': runningOf(live['order-producer']),
  'order-consumer': runningOf(live['order-consumer']),
});

/** Where new connections go. In the middle of a hand-over, when both get some, that is the candidate. */
export async function trackOf(kubectl: Kubectl): Promise<Track> {
  const service = await kubectl.find<ServiceObject>('service', 'order-producer');
  return service && service.spec.selector['track'] !== 'stable' ? 'candidate' : 'stable';
}

/** @throws {DeploymentError} NOT_FOUND with what to do, or what kubectl says of an unreachable cluster, a token … */
export async function checkNamespace(kubectl: Kubectl): Promise<void> {
  const { namespace } = kubectl;
  const found = await kubectl.find('namespace', namespace).catch((cause) => {
    if (!hasCode(cause, 'FORBIDDEN')) throw cause;
    // Rights come with the namespace: whoever has none may not even see that it is missing.
    const how = `missing, or without the rights of: kubectl apply -n ${namespace} -k k8s/deployer`;
    throw new DeploymentError('FORBIDDEN', `the namespace ${namespace} is ${how}`, { cause });
  });
  if (found) return;
  const how = `kubectl apply -f k8s/overlays/${namespace}/namespace.yaml`;
  throw new DeploymentError('NOT_FOUND', `the cluster has no namespace ${namespace}. Do: ${how}`);
}

/** What runs and where orders go, in lines for people; said whenever a run ends before its time. */
export async function describeSituation(kubectl: Kubectl): Promise<string[]> {
  const lines = [];
  for (const service of SERVICES) {
    for (const name of [service, candidateName(service)]) {
      const deployment = await kubectl.find<DeploymentObject>('deployment', name);
      if (!deployment) continue;
      const { availableReplicas = 0 } = deployment.status ?? {};
      lines.push(
        `deployment/${name}: release ${releaseOf(deployment)}, ${availableReplicas} of ${deployment.spec.replicas ?? 1} available`,
      );
    }
  }
  const service = await kubectl.find<ServiceObject>('service', 'order-producer');
  lines.push(
    `service/order-producer: traffic to ${service ? (service.spec.selector['track'] ?? 'both tracks') : 'nothing'}`,
  );
  return lines;
}
