import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { MIGRATION_TIMEOUT_MS } from '@orders/consumer/adapters/migrations.ts';
import { consumerConfigSchema, loadConsumerConfig } from '@orders/consumer/config.ts';
import { loadProducerConfig, producerConfigSchema } from '@orders/producer/config.ts';
import { managementPort } from '@orders/shared/runtime/config.ts';
import { Ajv } from 'ajv';
import ajvFormats from 'ajv-formats';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { BACKEND_IMAGES, type Resource } from './cluster.ts';
import { criticals, customResourceDefinitions, invalidFor, kustomize } from './tools.ts';

const VERSIONS = ['1.32', '1.33', '1.34', '1.35', '1.36'];

/** What kube-score finds critical, and why it stays. */
const EXPLAINED: Record<string, string> = {
  'container-image-pull-policy': 'tags are never moved, so what a node has is what it would pull',
  'container-ephemeral-storage-request-and-limit':
    'the root file system is read-only; only log lines are written',
  'container-resources': 'no CPU limit: a throttled event loop answers nobody',
};
const EXPLAINED_IN_DEV: Record<string, string> = {
  ...EXPLAINED,
  'pod-networkpolicy': 'not every local cluster has them, and nothing in it is worth guarding',
  'container-security-context-readonlyrootfilesystem': 'LocalStack unpacks itself at start',
};
const EMULATOR = 'an emulator, in dev only';

/** What the repository has in place of a team's own: RFC 5737 keeps the addresses, AWS's documents the account. */
const PLACEHOLDERS = {
  addresses: /^192\.0\.2\.\d+\/\d+$/,
  registry: /^123456789012\./,
  arn: /:123456789012:/,
  account: /^123456789012$/,
};
const ALB = 'alb.ingress.kubernetes.io';

/** Go lets a pattern say that it ignores case; JavaScript wants a flag for it. */
const goRegExp = Object.assign(
  (pattern: string, flags: string) =>
    new RegExp(pattern.replace('(?i)', ''), pattern.includes('(?i)') ? `${flags}i` : flags),
  { code: 'new RegExp' },
);

describe.each(['dev', 'staging', 'production'])('overlay %s', (overlay) => {
  let folder: string;
  let file: string;
  let resources: Resource[];

  beforeAll(async () => {
    folder = await mkdtemp(path.join(tmpdir(), 'order-k8s-'));
    const manifests = await kustomize(`k8s/overlays/${overlay}`);
    resources = parseAllDocuments(manifests).map((document) => document.toJS() as Resource);
    file = path.join(folder, `${overlay}.yaml`);
    await writeFile(file, manifests);
  });
  afterAll(() => rm(folder, { recursive: true }));

  const all = (kind: string) => resources.filter((resource) => resource.kind === kind);
  const one = (kind: string, name: string) => {
    const [found, ...more] = all(kind).filter(
      ({ metadata }) => metadata.name.replace(/-[a-z0-9]{10}$/, '') === name,
    );
    if (!found || more.length > 0) throw new Error(`${1 + more.length} of ${kind} ${name}`);
    return found;
  };

  it.each(VERSIONS)('is valid for Kubernetes %s', async (version) => {
    expect(await invalidFor(version, file)).toEqual([]);
  });

  it('is valid for the operators, field by field', async () => {
    const ajv = ajvFormats.default(new Ajv({ strict: false, allErrors: true, code: { regExp: goRegExp } }));
    const definitions = await customResourceDefinitions();
    const custom = resources.filter(({ apiVersion }) => isCustom(apiVersion));
    expect(custom.length > 0).toBe(overlay !== 'dev');
    for (const resource of custom) {
      const [group, name] = resource['apiVersion'].split('/');
      const definition = definitions.find(
        ({ spec }) => spec.group === group && spec.names.kind === resource.kind,
      );
      const version = definition?.['spec'].versions.find(
        (version: { name: string }) => version.name === name,
      );
      if (!version) throw new Error(`no CRD has ${resource['apiVersion']} ${resource.kind}`);
      const validate = ajv.compile(closed(version.schema.openAPIV3Schema));
      expect({ kind: resource.kind, valid: validate(resource), errors: validate.errors }).toMatchObject({
        valid: true,
      });
    }
  });

  // Where kube-score is not there, it is built once.
  it('kube-score finds nothing critical that is not explained', { timeout: 300_000 }, async () => {
    const explained = overlay === 'dev' ? EXPLAINED_IN_DEV : EXPLAINED;
    const unexplained = (await criticals(file)).filter(({ check }) => !(check in explained));
    expect(unexplained).toEqual([]);
  });

  it('configuration, as the services read it, is accepted and is that of the environment', () => {
    const producer = loadProducerConfig(one('ConfigMap', 'order-producer')['data']);
    const DATABASE_URL =
      overlay === 'dev'
        ? 'postgres://orders:orders@postgres/orders'
        : 'postgres://database/orders?sslmode=verify-full';
    const consumer = loadConsumerConfig({ ...one('ConfigMap', 'order-consumer')['data'], DATABASE_URL });
    for (const config of [producer, consumer]) {
      expect(config).toMatchObject({ APP_ENV: overlay, HOST: '0.0.0.0' });
      expect([config.AWS_ENDPOINT_URL !== undefined, EMULATOR]).toEqual([overlay === 'dev', EMULATOR]);
    }
    expect(producer.ACCEPTANCE_JOURNAL).toBe('stdout');
  });

  it.each(['order-producer', 'order-consumer'])('%s is configured by names that it knows', (name) => {
    const { shape } = { 'order-producer': producerConfigSchema, 'order-consumer': consumerConfigSchema }[
      name
    ] ?? {
      shape: {},
    };
    const unknown = Object.keys(one('ConfigMap', name)['data']).filter((key) => !(key in shape));
    expect(unknown).toEqual([]);
  });

  it.each(['order-producer', 'order-consumer'])('%s has the time that its stop needs', (name) => {
    const { spec } = one('Deployment', name)['spec'].template;
    const graceSeconds = Number(one('ConfigMap', name)['data'].SHUTDOWN_GRACE_MS) / 1_000;
    const preStopSeconds = spec.containers[0].lifecycle.preStop.sleep.seconds;
    expect(spec.terminationGracePeriodSeconds).toBeGreaterThan(preStopSeconds + graceSeconds);
  });

  it('order-consumer has the time that a migration may take, and is not killed meanwhile', () => {
    const { progressDeadlineSeconds, template } = one('Deployment', 'order-consumer')['spec'];
    expect(progressDeadlineSeconds * 1_000).toBeGreaterThan(MIGRATION_TIMEOUT_MS);
    // What is answered before the database is open.
    expect(template.spec.containers[0].startupProbe.httpGet.path).toBe('/livez');
  });

  it('one owner of replicas, and never two', () => {
    const targets = [...all('HorizontalPodAutoscaler'), ...all('ScaledObject')].map(
      ({ spec }) => spec.scaleTargetRef.name,
    );
    expect(targets.sort()).toEqual(overlay === 'dev' ? [] : ['order-consumer', 'order-producer']);
    for (const { metadata, spec } of all('Deployment'))
      expect([metadata.name, 'replicas' in spec]).toEqual([metadata.name, !targets.includes(metadata.name)]);
  });

  it('Services lead to the pods of the Deployments', () => {
    for (const name of ['order-producer', 'order-consumer']) {
      const labels = one('Deployment', name)['spec'].template.metadata.labels;
      expect(labels).toMatchObject(one('Service', name)['spec'].selector);
      expect(labels).toMatchObject(one('PodDisruptionBudget', name)['spec'].selector.matchLabels);
      expect(labels).toMatchObject({ app: name, track: 'stable' });
    }
  });

  it.runIf(overlay === 'dev')('its backends are the images that the tests bring to a cluster', () => {
    const images = all('Deployment').map(({ spec }) => spec.template.spec.containers[0].image as string);
    expect(images.filter((image) => !image.startsWith('order-')).toSorted()).toEqual(BACKEND_IMAGES);
  });

  it.skipIf(overlay === 'dev')(
    'policies let the API server in, to candidates too, and other addresses not',
    () => {
      const { spec } = one('NetworkPolicy', 'from-api-server');
      expect(spec.policyTypes).toEqual(['Ingress']);
      const [{ operator, key, values }] = spec.podSelector.matchExpressions;
      expect({ operator, key }).toEqual({ operator: 'In', key: 'app' });
      for (const { metadata, spec: deployment } of all('Deployment')) {
        // A candidate differs from its stable Deployment in the label `track` alone.
        expect(values).toContain(deployment.template.metadata.labels.app);
        expect([metadata.name, deployment.template.spec.containers[0].ports.map(portName)]).toEqual([
          metadata.name,
          PORT_NAMES[overlay],
        ]);
      }
      expect(spec.ingress).toHaveLength(1);
      expect(spec.ingress[0].ports).toEqual(PORT_NAMES[overlay]?.map((port) => ({ port })));
      const addresses = blocksOf(spec.ingress);
      expect(addresses.length).toBeGreaterThan(0);
      for (const cidr of addresses) expect(cidr).toMatch(/^\d+\.\d+\.\d+\.\d+\/([89]|[12]\d|3[0-2])$/);
    },
  );

  it.skipIf(overlay === 'dev')('policies name who may come in, and the addresses of the database', () => {
    const open = all('NetworkPolicy').filter(({ spec }) =>
      [...(spec.ingress ?? []), ...(spec.egress ?? [])].some((rule) => peersOf(rule).some(isAnybody)),
    );
    expect(open).toEqual([]);
    const toDatabase = all('NetworkPolicy').filter(({ spec }) =>
      (spec.egress ?? []).some(({ ports }: Resource) => ports.some(({ port }: Resource) => port === 5432)),
    );
    expect(toDatabase.map(({ metadata }) => metadata.name)).toEqual(['to-database']);
  });

  it("has Prometheus's pages in production on a port that no Service shows, where Prometheus looks", () => {
    const metricsPort = overlay === 'production' ? 'management' : 'http';
    // From the Secret.
    const DATABASE_URL = 'postgres://database/orders?sslmode=verify-full';
    for (const [name, load] of [
      ['order-producer', loadProducerConfig],
      ['order-consumer', loadConsumerConfig],
    ] as const) {
      const { ports } = one('Deployment', name)['spec'].template.spec.containers[0];
      const shown = ports.find((port: { name: string }) => port.name === 'management')?.containerPort;
      expect([name, shown]).toEqual([
        name,
        managementPort(load({ ...one('ConfigMap', name)['data'], DATABASE_URL })),
      ]);
      expect(one('Service', name)['spec'].ports.map(targetOf)).toEqual(['http']);
    }
    for (const { spec } of all('PodMonitor'))
      expect(spec.podMetricsEndpoints.map((endpoint: { port: string }) => endpoint.port)).toEqual([
        metricsPort,
      ]);
    for (const { spec } of all('NetworkPolicy').filter(({ metadata }) => metadata.name === 'from-prometheus'))
      expect(spec.ingress.map(({ ports }: Resource) => ports)).toEqual([[{ port: metricsPort }]]);
  });

  it.skipIf(overlay === 'dev')(
    'policies open the management port to Prometheus, operators and the API server alone',
    () => {
      const opened = all('NetworkPolicy').filter(({ spec }) =>
        (spec.ingress ?? []).some(
          ({ ports }: Resource) =>
            !ports || ports.some(({ port }: Resource) => [undefined, 'management', 8082].includes(port)),
        ),
      );
      expect(opened.map(({ metadata }) => metadata.name).toSorted()).toEqual(
        overlay === 'production' ? ['from-api-server', 'from-operators', 'from-prometheus'] : [],
      );
    },
  );

  // Else the first deployment, which looks into no pod, would succeed, and every later one fail.
  it.skipIf(overlay === 'dev')(
    'has the placeholders of registry, account, subnets, key and certificate all, or none',
    () => {
      const images = all('Deployment').map(({ spec }) => spec.template.spec.containers[0].image as string);
      const addresses = [
        ...blocksOf(one('NetworkPolicy', 'from-api-server')['spec'].ingress),
        ...blocksOf(one('NetworkPolicy', 'to-database')['spec'].egress),
      ];
      const certificates = all('Ingress').map(
        ({ metadata }) => metadata.annotations?.[`${ALB}/certificate-arn`] ?? '',
      );
      const settings = ['order-producer', 'order-consumer'].map((name) => one('ConfigMap', name)['data']);
      const accounts = settings.map((data) => data['EXPECTED_AWS_ACCOUNT']);
      const keys = settings.flatMap((data) => data['MESSAGE_ENCRYPTION_KMS_KEYS'] ?? []);
      const set = {
        accounts: accounts.map((account) => !PLACEHOLDERS.account.test(account)),
        keys: keys.map((arn) => !PLACEHOLDERS.arn.test(arn)),
        registry: images.map((image) => !PLACEHOLDERS.registry.test(image)),
        addresses: addresses.map((cidr) => !PLACEHOLDERS.addresses.test(cidr)),
        certificates: certificates.map((arn) => !PLACEHOLDERS.arn.test(arn)),
      };
      const answers = new Set(Object.values(set).flat());
      expect(answers.size, JSON.stringify({ images, accounts, keys, addresses, certificates })).toBe(1);
    },
  );

  it('outside speaks HTTPS with the load balancer, TLS 1.2 or 1.3; HTTP is sent there', () => {
    for (const { metadata } of all('Ingress'))
      expect(metadata.annotations).toMatchObject({
        [`${ALB}/listen-ports`]: '[{"HTTP": 80}, {"HTTPS": 443}]',
        [`${ALB}/ssl-redirect`]: '443',
        [`${ALB}/ssl-policy`]: 'ELBSecurityPolicy-TLS13-1-2-Res-2021-06',
        [`${ALB}/certificate-arn`]: expect.stringMatching(
          /^arn:aws:acm:[a-z0-9-]+:\d{12}:certificate\/[0-9a-f-]{36}$/,
        ),
      });
  });

  it.skipIf(overlay === 'dev')('order-consumer has the CAs of the database where it looks for them', () => {
    const { containers, volumes } = one('Deployment', 'order-consumer')['spec'].template.spec;
    const file = one('ConfigMap', 'order-consumer')['data'].DATABASE_CA_FILE as string;
    const mount = containers[0].volumeMounts.find(
      ({ mountPath }: Resource) => mountPath === path.posix.dirname(file),
    );
    expect(volumes).toContainEqual({ name: mount.name, configMap: { name: 'order-database-ca' } });
  });

  it.skipIf(overlay === 'dev')('order-consumer has the login of the database where it looks for it', () => {
    const { target } = one('ExternalSecret', 'order-database')['spec'];
    const { containers, volumes } = one('Deployment', 'order-consumer')['spec'].template.spec;
    const [{ env, volumeMounts }] = containers;
    expect(env).toContainEqual({
      name: 'DATABASE_URL',
      valueFrom: { secretKeyRef: { name: target.name, key: 'url' } },
    });
    expect(new URL(target.template.data.url.replaceAll(/\{\{.*?\}\}/g, '1'))).toMatchObject({
      username: '',
      password: '',
      search: '?sslmode=verify-full',
    });
    const config = one('ConfigMap', 'order-consumer')['data'];
    for (const [file, field] of [
      [config.DATABASE_USER_FILE, 'username'],
      [config.DATABASE_PASSWORD_FILE, 'password'],
    ]) {
      const mount = volumeMounts.find(({ mountPath }: Resource) => mountPath === path.posix.dirname(file));
      const { secret } = volumes.find(({ name }: Resource) => name === mount.name);
      expect(secret.secretName).toBe(target.name);
      expect(secret.items).toContainEqual({ key: field, path: path.posix.basename(file) });
      expect(target.template.data[field]).toBe(`{{ .${field} }}`);
    }
  });

  it('from outside only /orders, look-ups at the consumer and all else at the producer, and in production nothing', () => {
    const reached = all('Ingress').flatMap(({ metadata, spec }) => {
      const methodsOf = (service: string) => {
        const conditions = metadata.annotations?.[`alb.ingress.kubernetes.io/conditions.${service}`] ?? '[]';
        return JSON.parse(conditions).flatMap(
          ({ httpRequestMethodConfig }: Resource) => httpRequestMethodConfig.Values,
        );
      };
      const paths: Resource[] = spec.rules.flatMap((rule: Resource) => rule['http'].paths);
      return paths.map(({ path, backend }) => [path, backend.service.name, methodsOf(backend.service.name)]);
    });
    // The load balancer takes the first that fits.
    const wanted = [
      ['/orders', 'order-consumer', ['GET', 'HEAD']],
      ['/orders', 'order-producer', []],
    ];
    expect(reached).toEqual(overlay === 'staging' ? wanted : []);
    const base = one('ConfigMap', 'order-producer')['data'].ORDER_STATUS_BASE_URL;
    if (overlay === 'staging') expect(new URL(base).hostname).toContain('.');
    for (const { spec } of all('Service')) expect(spec.type ?? 'ClusterIP').toBe('ClusterIP');
  });
});

const PORT_NAMES: Record<string, string[]> = { staging: ['http'], production: ['http', 'management'] };
const targetOf = ({ targetPort }: { targetPort: string }) => targetPort;
const portName = ({ name }: { name: string }) => name;

type Peer = { ipBlock?: { cidr: string }; namespaceSelector?: object; podSelector?: object };
type Rule = { from?: Peer[]; to?: Peer[] };
/** A rule that names nobody is for everybody. */
const peersOf = ({ from, to }: Rule): Peer[] => from ?? to ?? [{}];
/** The addresses that these rules of a NetworkPolicy let in, or out. */
const blocksOf = (rules: Rule[]) =>
  rules.flatMap(peersOf).flatMap(({ ipBlock }) => (ipBlock ? [ipBlock.cidr] : []));

/** An empty selector, alone, is every pod of every namespace. */
const isAnybody = ({ ipBlock, namespaceSelector = {}, podSelector }: Peer) =>
  !ipBlock && !podSelector && Object.keys(namespaceSelector).length === 0;

const isCustom = (apiVersion: string) =>
  /\.(sh|io|com)\//.test(apiVersion) && !/\.k8s\.io\//.test(apiVersion);

/** The API server drops fields that a CRD does not name; here they are an error, since they are always a typing one. */
function closed(schema: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(schema).map(([key, value]): [string, unknown] => {
    if (key === 'properties')
      return [
        key,
        Object.fromEntries(Object.entries(value as object).map(([name, part]) => [name, closed(part)])),
      ];
    return [key, key === 'items' || key === 'additionalProperties' ? closedPart(value) : value];
  });
  const open = schema['x-kubernetes-preserve-unknown-fields'] === true || 'additionalProperties' in schema;
  return Object.fromEntries(
    'properties' in schema && !open ? [...entries, ['additionalProperties', false]] : entries,
  );
}

const closedPart = (part: unknown) =>
  typeof part === 'object' && part !== null ? closed(part as Record<string, unknown>) : part;
