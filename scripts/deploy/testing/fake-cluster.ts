import { DeploymentError } from '../errors.ts';
import {
  type DeploymentObject,
  type Execute,
  Kubectl,
  type KubernetesObject,
  type ServiceObject,
} from '../kubectl.ts';
import type { PodHttp } from '../pod-http.ts';
import { type FakePod, FakeWorkload } from './fake-workload.ts';

type Answer = { status: number; stdout: string; stderr: string };
type Stored = KubernetesObject & { spec?: unknown };

const TICK_MS = 500;
const DRY_RUN = '--dry-run=server';
const LAST_APPLIED = 'kubectl.kubernetes.io/last-applied-configuration';
const REVISION = 'deployment.kubernetes.io/revision';
const ok = (value?: unknown): Answer => ({
  status: 0,
  stdout: value === undefined ? '' : JSON.stringify(value),
  stderr: '',
});
const refuse = (reason: string): Answer => ({
  status: 1,
  stdout: '',
  stderr: `Error from server (${reason}): it`,
});
/** What kubectl says of a JSON patch whose `test` fails. */
const INVALID = {
  status: 1,
  stdout: '',
  stderr: 'The request is invalid: the server rejected our request due to an error in our request',
};
const key = (kind: string, name: string) => `${kind.toLowerCase().replace(/s$|\..*$/g, '')}/${name}`;

/**
 * A namespace of Kubernetes behind the port of the deployment tool, `kubectl` and HTTP: objects, a Deployment controller,
 * Services, and pods that work. Time is that of vitest's fake timers; it moves when it is asked something.
 */
export class FakeCluster {
  readonly objects = new Map<string, Stored>();
  readonly workload = new FakeWorkload();
  /** All that changed something, as typed. */
  readonly changes: string[] = [];
  /** What kubectl says instead of doing it; `undefined` lets it. */
  fault: (verb: string, args: string[]) => string | undefined = () => undefined;
  #replicaSets: DeploymentObject[] = [];
  #version = 0;
  #at = performance.now();

  readonly execute: Execute = async (args, input) => {
    this.advance();
    const [verb = '', ...rest] = args.slice(3);
    const stderr = this.fault(verb, rest);
    if (stderr !== undefined) return { status: 1, stdout: '', stderr };
    const answer = this.#verbs[verb]?.(rest, input) ?? refuse(`no verb ${verb}`);
    if (!['get', 'logs'].includes(verb) && !rest.includes(DRY_RUN))
      this.changes.push(`${verb} ${rest.join(' ')}`);
    return answer;
  };
  readonly kubectl = new Kubectl('staging', this.execute);
  readonly http: PodHttp = {
    request: async (target, path, body) => {
      this.advance();
      const [, kind, name, port] = /^(\w+)\/([\w-]+):(\d+)$/.exec(target) ?? [];
      const pod =
        kind === 'pods'
          ? this.workload.pods.find((each) => each.name === name)
          : this.endpoints(name ?? '')[0];
      if (kind === 'pods' && !pod) throw new DeploymentError('NO_ANSWER', `no answer from ${target}`);
      if (!pod) return { status: 503, body: 'no endpoints available', durationMs: 1 };
      return this.workload.answer(pod, Number(port), path, body as { orderId: string } | undefined);
    },
  };

  /** Lets the time that has passed take effect. */
  advance(): void {
    for (; this.#at <= performance.now(); this.#at += TICK_MS) {
      for (const object of this.objects.values()) {
        if (object.kind === 'Deployment') this.#reconcile(object as DeploymentObject);
      }
      this.workload.work(TICK_MS, this.endpoints('order-producer'));
    }
  }

  get<T extends KubernetesObject>(kind: string, name: string): T {
    return this.objects.get(key(kind, name)) as T;
  }

  scale(name: string, replicas: number): void {
    this.get<DeploymentObject>('deployment', name).spec.replicas = replicas;
  }

  endpoints(service: string): FakePod[] {
    const found = this.get<ServiceObject>('service', service);
    const matches = ({ labels }: FakePod) =>
      Object.entries(found?.spec.selector ?? { none: '' }).every(([name, value]) => labels[name] === value);
    return this.workload.pods.filter((pod) => matches(pod) && this.workload.isReady(pod) && !pod.isEnding);
  }

  readonly #verbs: Record<string, (args: string[], input: string | undefined) => Answer> = {
    get: (args, input) => this.#get(args, input),
    logs: () => ok('its last words'),
    apply: (_args, input) => {
      for (const object of JSON.parse(input ?? '').items) this.#store(object, JSON.stringify(object));
      return ok();
    },
    create: (_args, input) => {
      const object = JSON.parse(input ?? '');
      if (this.objects.has(key(object.kind, object.metadata.name))) return refuse('AlreadyExists');
      return ok(this.#store({ spec: {}, ...object }));
    },
    patch: ([kind = '', name = '', ...args]) => {
      const found = this.objects.get(key(kind, name));
      if (!found) return refuse('NotFound');
      const patched = structuredClone(found);
      const patch = JSON.parse(args[args.indexOf('-p') + 1] ?? '');
      if (!Array.isArray(patch)) merge((patched as ServiceObject).spec.selector, patch.spec.selector);
      else if (!patch.every((operation) => operate(patched, operation))) return INVALID;
      return ok(args.includes(DRY_RUN) ? patched : this.#store(patched));
    },
    rollout: ([_undo, target = '', to = '']) => {
      const [, name = ''] = target.split('/');
      const deployment = structuredClone(this.get<DeploymentObject>('deployment', name));
      const revision = to.replace('--to-revision=', '');
      const set = this.#replicaSets.find(
        ({ metadata }) =>
          metadata.name.startsWith(`${name}#`) && metadata.annotations?.[REVISION] === revision,
      );
      if (!set)
        return { ...INVALID, stderr: `error: unable to find specified revision ${revision} in history` };
      const { 'pod-template-hash': _, ...labels } = set.spec.template.metadata.labels;
      deployment.spec.template = { ...set.spec.template, metadata: { labels } };
      return ok(this.#store(deployment));
    },
    delete: ([kind = '', name = '']) => {
      this.objects.delete(key(kind, name));
      for (const pod of this.workload.pods) if (pod.deployment === name) this.workload.end(pod);
      return ok();
    },
  };

  #get(args: string[], input: string | undefined): Answer {
    const [kind = '', name = ''] = args;
    if (input !== undefined) {
      const wanted: KubernetesObject[] = JSON.parse(input).items;
      return ok({
        items: wanted.flatMap((each) => this.objects.get(key(each.kind, each.metadata.name)) ?? []),
      });
    }
    if (name !== '-l') {
      const found = this.objects.get(key(kind, name));
      return found ? ok(found) : refuse('NotFound');
    }
    const labels = Object.fromEntries((args[2] ?? '').split(',').map((pair) => pair.split('=')));
    const matches = (of: Record<string, string> = {}) =>
      Object.entries(labels).every(([label, value]) => of[label] === value);
    const pods = this.workload.pods.map((pod) => this.#describe(pod));
    const all = kind === 'pods' ? pods : this.#replicaSets;
    return ok({ items: all.filter(({ metadata }) => matches(metadata.labels)) });
  }

  #store(object: Stored, applied?: string): Stored {
    const id = key(object.kind, object.metadata.name);
    const before = this.objects.get(id);
    const stored = structuredClone(object);
    stored.metadata.resourceVersion = String(++this.#version);
    stored.metadata.generation = (before?.metadata.generation ?? 0) + 1;
    stored.metadata.annotations = {
      ...before?.metadata.annotations,
      ...stored.metadata.annotations,
      ...(applied ? { [LAST_APPLIED]: applied } : {}),
    };
    if (stored.kind === 'Deployment') {
      const { spec } = stored as DeploymentObject;
      spec.replicas ??= (before as DeploymentObject | undefined)?.spec.replicas ?? 2;
    }
    this.objects.set(id, stored);
    return stored;
  }

  #reconcile(deployment: DeploymentObject): void {
    const { metadata, spec } = deployment;
    const set = this.#newestSet(deployment);
    const hash = set.metadata.labels?.['pod-template-hash'] ?? '';
    const { workload } = this;
    const mine = workload.pods.filter((pod) => pod.deployment === metadata.name && !pod.isEnding);
    const isNew = ({ labels }: FakePod) => labels['pod-template-hash'] === hash;
    const [fresh, old] = [mine.filter(isNew), mine.filter((pod) => !isNew(pod))];
    const wanted = spec.replicas ?? 1;
    const surge = JSON.stringify(spec.strategy ?? {}).includes('100%') ? wanted : 1;
    const room = Math.min(wanted - fresh.length, wanted + surge - mine.length);
    for (let count = 0; count < room; count++) workload.start(deployment, hash);
    const spare = mine.filter(workload.isReady).length - wanted;
    const [useless, useful] = [old.filter((pod) => !workload.isReady(pod)), old.filter(workload.isReady)];
    for (const pod of [...useless, ...useful.slice(0, Math.max(0, spare)), ...fresh.slice(wanted)])
      workload.end(pod);
    const left = workload.pods.filter((pod) => pod.deployment === metadata.name && !pod.isEnding);
    deployment.status = {
      observedGeneration: metadata.generation ?? 1,
      replicas: left.length,
      updatedReplicas: left.filter(isNew).length,
      availableReplicas: left.filter(workload.isReady).length,
    };
  }

  /** As the controller does it: an old template that comes back gets the newest number. */
  #newestSet({ metadata, spec }: DeploymentObject): DeploymentObject {
    const template = JSON.stringify(spec.template);
    const ofSame = this.#replicaSets.filter((set) => set.metadata.name.startsWith(`${metadata.name}#`));
    const newest = Math.max(0, ...ofSame.map((set) => Number(set.metadata.annotations?.[REVISION])));
    let set = ofSame.find(({ metadata }) => metadata.annotations?.['template'] === template);
    if (!set) {
      const hash = `h${this.#replicaSets.length + 1}`;
      const labels = { ...spec.template.metadata.labels, 'pod-template-hash': hash };
      const copy = structuredClone(spec);
      copy.template.metadata.labels = labels;
      const annotations = { template, [REVISION]: '0' };
      set = {
        apiVersion: 'apps/v1',
        kind: 'ReplicaSet',
        metadata: { name: `${metadata.name}#${hash}`, labels, annotations },
        spec: copy,
      };
      this.#replicaSets.push(set);
    }
    const annotations = set.metadata.annotations ?? {};
    if (Number(annotations[REVISION]) !== newest || newest === 0) annotations[REVISION] = String(newest + 1);
    metadata.annotations = { ...metadata.annotations, [REVISION]: annotations[REVISION] ?? '' };
    return set;
  }

  #describe(pod: FakePod) {
    const ready = this.workload.isReady(pod);
    const { waits } = this.workload.faultOf(pod);
    const unscheduled = { type: 'PodScheduled', status: 'False', message: 'no room' };
    return {
      metadata: {
        name: pod.name,
        labels: pod.labels,
        ...(pod.isEnding ? { deletionTimestamp: 'now' } : {}),
      },
      spec: {
        containers: [
          {
            name: pod.labels['app'],
            image: pod.image,
            ports: Object.entries(pod.ports).map(([name, containerPort]) => ({ name, containerPort })),
          },
        ],
      },
      status: {
        phase: pod.isPending ? 'Pending' : 'Running',
        conditions: [
          { type: 'Ready', status: ready ? 'True' : 'False' },
          ...(pod.isPending ? [unscheduled] : []),
        ],
        containerStatuses: [{ restartCount: 0, state: waits ? { waiting: waits } : {} }],
      },
    };
  }
}

/** RFC 7396: null removes a member. */
function merge(target: Record<string, string>, patch: Record<string, string | null>): void {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete target[name];
    else target[name] = value;
  }
}

/** `add`, `replace` and `test` of RFC 6902. @returns whether it may go on */
function operate(
  object: unknown,
  { op, path: pointer, value }: { op: string; path: string; value: unknown },
): boolean {
  const path = pointer
    .slice(1)
    .split('/')
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'));
  const last = path.pop() ?? '';
  // biome-ignore lint/suspicious/noExplicitAny: any JSON
  const parent = path.reduce((at: any, part) => at[part], object);
  if (op === 'test') return parent[last] === value;
  parent[last] = structuredClone(value);
  return true;
}
