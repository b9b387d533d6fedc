import type { DeploymentObject, Kubectl, ServiceObject } from './kubectl.ts';
import { candidateName, releaseOf, SERVICES } from './manifests.ts';

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
  lines.push(`service/order-producer: traffic to ${service?.spec.selector['track'] ?? 'nothing'}`);
  return lines;
}
