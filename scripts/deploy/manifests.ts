import { parseAllDocuments } from 'yaml';
import { DeploymentError } from './errors.ts';
import type { DeploymentObject, KubernetesObject, PodObject, ServiceObject } from './kubectl.ts';

export const SERVICES = ['order-producer', 'order-consumer'] as const;
export type ServiceName = (typeof SERVICES)[number];
/** What a service ran: its release, and the revision of its Deployment, which tells configurations apart as well. */
export type Running = { release: string; revision?: number };
/** Of both services: they may differ after a hotfix of one. */
export type RunningReleases = Record<ServiceName, Running>;
export type Track = 'stable' | 'candidate';

export const PORTS: Record<ServiceName, number> = { 'order-producer': 8080, 'order-consumer': 8081 };
/**
 * Where a pod shows its metrics: on the port that it declares as `management`, else on that of the service. By pod and not
 * by release, since both kinds run while one takes the place of the other.
 */
export function metricsPort({ spec }: Pick<PodObject, 'spec'>, service: ServiceName): number {
  const ports = spec.containers.flatMap((container) => container.ports ?? []);
  return ports.find(({ name }) => name === 'management')?.containerPort ?? PORTS[service];
}

export const PREVIEW_SERVICE = 'order-producer-preview';
export const candidateName = (service: ServiceName) => `${service}-candidate`;
export const podLabels = (service: ServiceName, track: Track) => ({ app: service, track });

/** An overlay as kustomize renders it, with this release's images. */
export type Manifests = {
  deployments: Record<ServiceName, DeploymentObject>;
  producerService: ServiceObject;
  /** A load balancer speaks to the producer's pods themselves, not to its Service. */
  hasIngress: boolean;
  /** All but the two Deployments and the Namespace: what may be applied before anything runs on it. */
  others: KubernetesObject[];
};

/** By service: what its image must be, whatever its tag points to. */
export type Digests = Partial<Record<ServiceName, string | undefined>>;

/** @throws {DeploymentError} MANIFEST when the overlay lacks what a deployment changes */
export function readManifests(rendered: string, tag: string, digests: Digests = {}): Manifests {
  const objects: KubernetesObject[] = parseAllDocuments(rendered).map((document) => document.toJS());
  const find = <T extends KubernetesObject>(kind: string, name: string): T => {
    const found = objects.find((object) => object.kind === kind && object.metadata.name === name);
    if (found) return found as T;
    throw new DeploymentError('MANIFEST', `the overlay has no ${kind} ${name}`);
  };
  const deployments = Object.fromEntries(
    SERVICES.map((name) => [name, withTag(find<DeploymentObject>('Deployment', name), tag, digests[name])]),
  ) as Manifests['deployments'];
  const isOurs = ({ kind, metadata }: KubernetesObject) =>
    kind === 'Namespace' || (kind === 'Deployment' && SERVICES.some((name) => name === metadata.name));
  return {
    deployments,
    producerService: find<ServiceObject>('Service', 'order-producer'),
    hasIngress: objects.some(({ kind }) => kind === 'Ingress'),
    others: objects.filter((object) => !isOurs(object)),
  };
}

export const defaultOverlay = (environment: string) => `k8s/overlays/${environment}`;

/** The tag of the image; a digest alone counts as one. */
export function releaseOf({ spec }: Pick<DeploymentObject, 'spec'>): string {
  return tagOf(spec.template.spec.containers[0].image);
}

export function tagOf(image: string): string {
  const [, tag, digest] = IMAGE.exec(image) ?? [];
  return tag ?? digest ?? 'latest';
}

/** `repository:tag@digest`, of which the tag, the digest or both may be absent; a registry may have a port. */
const IMAGE = /(?::([\w.-]+))?(?:@([^/]+))?$/;

function withTag(deployment: DeploymentObject, tag: string, digest: string | undefined): DeploymentObject {
  const copy = structuredClone(deployment);
  const { containers, initContainers = [] } = copy.spec.template.spec;
  const repository = repositoryOf(containers[0].image);
  const image = `${repository}:${tag}${digest ? `@${digest}` : ''}`;
  for (const container of [...containers, ...initContainers]) {
    if (repositoryOf(container.image) === repository) container.image = image;
  }
  // What `kubectl rollout history` shows.
  copy.metadata.annotations = {
    ...copy.metadata.annotations,
    'kubernetes.io/change-cause': `release ${tag}`,
  };
  return copy;
}

const repositoryOf = (image: string) => image.replace(IMAGE, '');

/** The same Deployment beside the live one: another name, another track, a number of its own. */
export function candidateOf(deployment: DeploymentObject, replicas: number): DeploymentObject {
  const copy = structuredClone(deployment);
  copy.metadata.name = candidateName(deployment.metadata.name as ServiceName);
  copy.spec.replicas = replicas;
  copy.spec.selector.matchLabels['track'] = 'candidate';
  copy.spec.template.metadata.labels['track'] = 'candidate';
  return copy;
}

/** Leads to the candidate only, for checks before the switch. */
export function previewOf(service: ServiceObject): ServiceObject {
  const copy = structuredClone(service);
  copy.metadata.name = PREVIEW_SERVICE;
  copy.spec.selector['track'] = 'candidate';
  return copy;
}
