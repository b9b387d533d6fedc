import { describe, expect, test } from 'vitest';
import { candidateOf, previewOf, readManifests, releaseOf, tagOf } from './manifests.ts';

const deployment = (name: string, image: string) => `
apiVersion: apps/v1
kind: Deployment
metadata: { name: ${name}, namespace: staging, labels: { app: ${name} } }
spec:
  selector: { matchLabels: { app: ${name}, track: stable } }
  template:
    metadata: { labels: { app: ${name}, track: stable } }
    spec:
      initContainers: [{ name: wait, image: "${image}" }, { name: other, image: busybox:1 }]
      containers: [{ name: ${name}, image: "${image}" }]
---`;
const RENDERED = `
apiVersion: v1
kind: Namespace
metadata: { name: staging }
---
apiVersion: v1
kind: Service
metadata: { name: order-producer }
spec: { selector: { app: order-producer, track: stable } }
---${deployment('order-producer', 'registry:5000/order-producer:1')}${deployment('order-consumer', 'order-consumer@sha256:aa')}
apiVersion: v1
kind: ConfigMap
metadata: { name: order-producer-abc }
`;

describe('manifests', () => {
  const { deployments, producerService, others } = readManifests(RENDERED, '2.0');

  test('release, of an overlay, is in every container that has the image, whatever it had before', () => {
    const { containers, initContainers } = deployments['order-producer'].spec.template.spec;
    expect(containers[0].image).toBe('registry:5000/order-producer:2.0');
    expect(initContainers?.map(({ image }) => image)).toEqual([
      'registry:5000/order-producer:2.0',
      'busybox:1',
    ]);
    expect(releaseOf(deployments['order-consumer'])).toBe('2.0');
    expect(others.map(({ kind }) => kind)).toEqual(['Service', 'ConfigMap']);
  });

  test('release that is named by digests as well runs by these, and is called by its tag', () => {
    const pinned = readManifests(RENDERED, '2.0', { 'order-consumer': 'sha256:bb' }).deployments;
    expect(pinned['order-consumer'].spec.template.spec.containers[0].image).toBe(
      'order-consumer:2.0@sha256:bb',
    );
    expect(pinned['order-producer'].spec.template.spec.containers[0].image).toBe(
      'registry:5000/order-producer:2.0',
    );
    expect(releaseOf(pinned['order-consumer'])).toBe('2.0');
  });

  test('candidate, of a Deployment, differs in name, track and number only', () => {
    const stable = deployments['order-producer'];
    const candidate = candidateOf(stable, 3);
    expect(candidate.metadata.name).toBe('order-producer-candidate');
    expect(candidate.spec.replicas).toBe(3);
    expect(candidate.spec.selector.matchLabels).toEqual({ app: 'order-producer', track: 'candidate' });
    expect(candidate.spec.template.metadata.labels).toEqual({ app: 'order-producer', track: 'candidate' });
    expect(candidate.spec.template.spec).toEqual(stable.spec.template.spec);
    expect(stable.spec.selector.matchLabels['track']).toBe('stable');
    expect(previewOf(producerService).spec.selector).toEqual({ app: 'order-producer', track: 'candidate' });
  });

  test('overlay, without one of the services, is refused', () => {
    expect(() => readManifests('kind: Service\nmetadata: { name: order-producer }', '1')).toThrow(
      'no Deployment order-producer',
    );
  });

  test.each([
    ['order-producer:1.2', '1.2'],
    ['registry:5000/order-producer', 'latest'],
    ['registry:5000/order-producer:v3', 'v3'],
    ['registry:5000/order-producer:v3@sha256:ab', 'v3'],
    ['registry:5000/order-producer@sha256:ab', 'sha256:ab'],
  ])('tag of %s is %s', (image, tag) => expect(tagOf(image)).toBe(tag));
});
