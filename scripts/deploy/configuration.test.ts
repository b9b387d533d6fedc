import { expect, test } from 'vitest';
import { apply, findChanges } from './configuration.ts';
import { switchTo } from './producer-blue-green.ts';
import { serving, trackOf } from './testing/staging.ts';

test('configuration, applied while the candidate has the traffic, leaves it there, and is no change', async () => {
  const staging = await serving();
  const { kubectl } = staging.session;
  const { manifests } = staging.request('v1');
  await switchTo(kubectl, 'candidate');
  await apply(kubectl, manifests.others);
  expect(trackOf(staging)).toBe('candidate');
  expect(await findChanges(kubectl, manifests)).toEqual({ configuration: [], added: [] });
});

test('configuration, that differs from what was applied last, is told with what it was', async () => {
  const staging = await serving();
  const { manifests } = staging.request('v2', { policy: 'closed', more: true });
  const { configuration, added } = await findChanges(staging.session.kubectl, manifests);
  expect(configuration).toEqual([expect.objectContaining({ kind: 'NetworkPolicy', spec: { note: 'open' } })]);
  expect(added).toEqual([['NetworkPolicy.v1.networking.k8s.io', 'one-more']]);
});
