import { expect, it } from 'vitest';
import { createApp } from '../app.ts';
import { ENVIRONMENTS } from '../environments.ts';
import { readSettings } from '../settings.ts';

const complete = {
  INFRA_ACCOUNT: '111122223333',
  INFRA_GITHUB_REPOSITORY: 'shop/orders',
  INFRA_CLUSTER_ADMIN_ROLE_ARN: 'arn:aws:iam::111122223333:role/administrators',
  INFRA_ALERT_EMAIL: 'orders@example.com',
};

it('settings, all set, miss nothing; the registry is in the same account unless another is named', () => {
  expect(readSettings(complete)).toEqual({
    missing: [],
    settings: {
      account: '111122223333',
      registryAccount: '111122223333',
      pullingAccounts: [],
      githubRepository: 'shop/orders',
      clusterAdminRoleArn: 'arn:aws:iam::111122223333:role/administrators',
      alertEmail: 'orders@example.com',
    },
  });
  const others = {
    INFRA_REGISTRY_ACCOUNT: '123456789012',
    INFRA_PULLING_ACCOUNTS: '123456789012,111122223333',
  };
  expect(readSettings({ ...complete, ...others }).settings).toMatchObject({
    registryAccount: '123456789012',
    pullingAccounts: ['123456789012', '111122223333'],
  });
});

it('settings, none set, are placeholders, and each is named', () => {
  expect(readSettings({}).missing).toEqual([
    'INFRA_ACCOUNT',
    'INFRA_REGISTRY_ACCOUNT',
    'INFRA_GITHUB_REPOSITORY',
    'INFRA_CLUSTER_ADMIN_ROLE_ARN',
    'INFRA_ALERT_EMAIL',
  ]);
});

it('settings of a wrong form are all named at once', () => {
  const wrong = { INFRA_ACCOUNT: '1234', INFRA_GITHUB_REPOSITORY: 'orders', INFRA_ALERT_EMAIL: 'nobody' };
  expect(() => readSettings({ ...complete, ...wrong })).toThrow(
    /^INFRA_ACCOUNT must be .*\nINFRA_GITHUB_REPOSITORY must be .*\nINFRA_ALERT_EMAIL must be .*$/,
  );
});

it('stacks, given an account, are for that account alone', () => {
  const { stacks } = createApp('staging', readSettings(complete).settings);
  for (const { account, region } of Object.values(stacks))
    expect({ account, region }).toEqual({ account: '111122223333', region: 'ap-northeast-2' });
});

it('environments, side by side, have addresses of their own', () => {
  const ranges = Object.values(ENVIRONMENTS).map(({ cidr }) => cidr.split('.').slice(0, 2).join('.'));
  expect(new Set(ranges).size).toBe(ranges.length);
  for (const { cidr, clients } of Object.values(ENVIRONMENTS)) {
    expect(cidr).toMatch(/\/16$/);
    expect(clients).not.toContain('0.0.0.0/0');
  }
});
