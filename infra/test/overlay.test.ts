import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import type { EnvironmentName } from '../environments.ts';
import { fillOverlay, parameterIn } from '../overlay.ts';
import { ofType, synthesised } from './synthesised.ts';

const environments: readonly EnvironmentName[] = ['staging', 'production'];
const overlayOf = (name: EnvironmentName) =>
  readFileSync(path.join(import.meta.dirname, '../../k8s/overlays', name, 'kustomization.yaml'), 'utf8');

describe.each(environments)('the overlay of %s', (name) => {
  const stacks = synthesised(name)
    .app.synth()
    .stacks.map(({ stackName, template }) => ({ stackName, template }));
  const values = {
    registry: '111122223333.dkr.ecr.ap-northeast-2.amazonaws.com',
    controlPlane: parameterIn(stacks, `/orders/${name}/control-plane-subnets`),
    database: parameterIn(stacks, `/orders/${name}/database-subnets`),
  };

  it("gets the account's values, and nothing else of it changes", () => {
    const before = parse(overlayOf(name));
    const after = parse(fillOverlay(overlayOf(name), values));
    const blocks = (cidrs: readonly string[]) => cidrs.map((cidr) => ({ ipBlock: { cidr } }));
    const patched = (target: string) => {
      const patch = after.patches.find((one: { target: { name?: string } }) => one.target.name === target);
      return parse(patch.patch)[0].value;
    };
    expect(values.controlPlane).toHaveLength(3);
    expect(patched('from-api-server')).toEqual(blocks(values.controlPlane));
    expect(patched('to-database')).toEqual(blocks(values.database));
    expect(after.images.map(({ newName }: { newName: string }) => newName)).toEqual([
      `${values.registry}/order-producer`,
      `${values.registry}/order-consumer`,
    ]);
    const isOurs = ({ target }: { target: { name?: string } }) =>
      ['from-api-server', 'to-database'].includes(target.name ?? '');
    const rest = ({
      images: _,
      patches,
      ...others
    }: {
      images: unknown;
      patches: { target: { name?: string } }[];
    }) => ({
      ...others,
      patches: patches.filter((patch) => !isOurs(patch)),
    });
    expect(rest(after)).toEqual(rest(before));
  });

  it('filled a second time, is the same; with other values, has those alone', () => {
    const once = fillOverlay(overlayOf(name), values);
    expect(fillOverlay(once, values)).toBe(once);
    const other = fillOverlay(once, { ...values, controlPlane: ['10.0.0.0/28'] });
    expect(other).toContain('10.0.0.0/28');
    for (const cidr of values.controlPlane) expect(other).not.toContain(`cidr: ${cidr} `);
  });

  it('without a place for a value, is refused', () => {
    expect(() => fillOverlay('resources: []\n', values)).toThrow('the overlay has no place for registry');
  });
});

it("staging's ingress asks for the group of the load balancer that the network has, by its name", () => {
  const names = ofType('staging', 'AWS::EC2::SecurityGroup').flatMap(({ Properties }) =>
    (Properties['Tags'] as { Key: string; Value: string }[]).flatMap(({ Key, Value }) =>
      Key === 'Name' ? Value : [],
    ),
  );
  expect(names).toContain('orders-staging-loadbalancer');
  const { patches } = parse(overlayOf('staging')) as {
    patches: { target: { kind: string }; patch: string }[];
  };
  const ingress = parse(patches.find(({ target }) => target.kind === 'Ingress')?.patch ?? '');
  expect(ingress).toContainEqual({
    op: 'add',
    path: '/metadata/annotations/alb.ingress.kubernetes.io~1security-groups',
    value: 'orders-staging-loadbalancer',
  });
});
