import { authMethods, managementPort } from '@orders/shared/runtime/config.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { describe, expect, it } from 'vitest';
import { loadProducerConfig, producerConfigSchema, statusBaseUrl } from './config.ts';

describe('loadProducerConfig', () => {
  it('loadProducerConfig, given an empty environment, returns the documented defaults', () => {
    expect(loadProducerConfig({})).toMatchObject({
      PRODUCER_PORT: 8080,
      CONSUMER_PORT: 8081,
      MESSAGE_VERSION: 1,
      APP_ENV: 'dev',
    });
  });

  it('loadProducerConfig, given several wrong variables, reports all of them', () => {
    const load = () =>
      loadProducerConfig({ PRODUCER_PORT: '70000', MESSAGE_VERSION: '2', MESSAGE_ENCODING: 'br' });
    expect(load).toThrow(StartupError);
    for (const variable of ['PRODUCER_PORT', 'MESSAGE_VERSION', 'MESSAGE_ENCODING'])
      expect(load).toThrow(`${variable}: `);
  });

  it('loadProducerConfig, of origins, reads the list and refuses what is none', () => {
    expect(loadProducerConfig({}).CORS_ALLOWED_ORIGINS).toEqual([]);
    const list = 'https://shop.example, http://localhost:3000';
    expect(loadProducerConfig({ CORS_ALLOWED_ORIGINS: list }).CORS_ALLOWED_ORIGINS).toEqual([
      'https://shop.example',
      'http://localhost:3000',
    ]);
    for (const wrong of ['*', 'shop.example', 'https://shop.example/', 'null'])
      expect(() => loadProducerConfig({ CORS_ALLOWED_ORIGINS: wrong })).toThrow('must be origins');
  });

  it('loadProducerConfig, given a batch larger than what may be in work, says that none would be accepted', () => {
    const load = (bytes: string) =>
      loadProducerConfig({ MAX_BATCH_BYTES: bytes, HTTP_MAX_BYTES_IN_WORK: '1048576' });
    expect(load('1048576').MAX_BATCH_BYTES).toBe(1_048_576);
    expect(() => load('1048577')).toThrow('MAX_BATCH_BYTES: must not exceed HTTP_MAX_BYTES_IN_WORK');
  });

  it('producerConfigSchema, given each variable, says what it is for', () => {
    for (const [name, field] of Object.entries(producerConfigSchema.shape)) {
      expect([name, field.description]).toEqual([name, expect.any(String)]);
    }
  });
});

const DEPLOYED = { APP_ENV: 'production', AUTH: 'api-key', API_KEYS_FILE: '/keys' };

describe('statusBaseUrl', () => {
  it.each([
    [{}, 'http://localhost:8081'],
    [{ CONSUMER_PORT: '9000' }, 'http://localhost:9000'],
    [{ ORDER_STATUS_BASE_URL: 'https://orders.example' }, 'https://orders.example'],
    [{ ...DEPLOYED, ORDER_STATUS_BASE_URL: 'https://orders.example' }, 'https://orders.example'],
    [DEPLOYED, undefined],
    [{ ...DEPLOYED, APP_ENV: 'staging' }, undefined],
    [{ ORDER_STATUS_BASE_URL: 'https://orders.example/api//' }, 'https://orders.example/api'],
  ])('statusBaseUrl, of %j, is %s', (env, url) => {
    expect(statusBaseUrl(loadProducerConfig(env))).toBe(url);
  });
});

it.each(['OFF', 'Off', 'STDOUT'])(
  'loadProducerConfig, of ACCEPTANCE_JOURNAL=%s, makes no file of it',
  (word) => {
    expect(() => loadProducerConfig({ ACCEPTANCE_JOURNAL: word })).toThrow(
      /ACCEPTANCE_JOURNAL: must be off or stdout/,
    );
    expect(loadProducerConfig({ ACCEPTANCE_JOURNAL: `${word}.ndjson` }).ACCEPTANCE_JOURNAL).toBe(
      `${word}.ndjson`,
    );
  },
);

it.each([
  [{}, []],
  [
    { TRUSTED_PROXIES: '10.0.0.0/16, 192.0.2.7,2001:db8::/32' },
    ['10.0.0.0/16', '192.0.2.7', '2001:db8::/32'],
  ],
])('with %j, proxies that are believed are %j', (env, proxies) => {
  expect(loadProducerConfig(env).TRUSTED_PROXIES).toEqual(proxies);
});

it.each([
  [{ TRUSTED_PROXIES: 'true' }, 'TRUSTED_PROXIES.0: must be addresses such as 10.0.0.0/16'],
  [{ TRUSTED_PROXIES: '10.0.0.0/33' }, 'TRUSTED_PROXIES.0: must be addresses such as 10.0.0.0/16'],
  [{ CLIENT_BURST_ORDERS: '5' }, 'CLIENT_BURST_ORDERS: needs CLIENT_ORDERS_PER_SECOND'],
  [{ CLIENT_ORDERS_PER_SECOND: '0' }, 'CLIENT_ORDERS_PER_SECOND'],
])('with %j does not start: %s', (env, problem) => {
  expect(() => loadProducerConfig(env)).toThrow(problem);
});

it.each([
  [{}, undefined],
  [{ ...DEPLOYED, APP_ENV: 'staging' }, undefined],
  [DEPLOYED, 8082],
  [{ ...DEPLOYED, MANAGEMENT_PORT: '9090' }, 9090],
  [{ MANAGEMENT_PORT: '8082' }, 8082],
])("with %j, Prometheus's pages are on a port of their own: %j", (env, port) => {
  expect(managementPort(loadProducerConfig(env))).toBe(port);
});

describe('who may call', () => {
  const file = { API_KEYS_FILE: '/keys' };
  const issuer = {
    JWT_ISSUER: 'https://id.example',
    JWT_AUDIENCE: 'orders',
    JWT_JWKS: 'https://id.example/keys',
  };

  it.each([
    [{}, ['none']],
    [{ AUTH: 'api-key', ...file }, ['api-key']],
    [{ APP_ENV: 'production', AUTH: 'none, api-key', ...file }, ['none', 'api-key']],
    [{ APP_ENV: 'staging', AUTH: 'api-key,jwt', ...file, ...issuer }, ['api-key', 'jwt']],
  ])('with %j is asked by %j', (env, methods) => {
    expect(authMethods(loadProducerConfig(env))).toEqual(methods);
  });

  it.each([
    [{ APP_ENV: 'staging' }, 'AUTH: must be api-key, jwt, or both'],
    [{ APP_ENV: 'production', AUTH: 'none' }, 'AUTH: must be api-key, jwt, or both'],
    [{ AUTH: 'api-key' }, 'API_KEYS_FILE: is needed for AUTH=api-key'],
    [{ AUTH: 'jwt', ...issuer, JWT_ISSUER: '' }, 'JWT_ISSUER: is needed for AUTH=jwt'],
    [{ AUTH: 'jwt', ...issuer, JWT_AUDIENCE: '' }, 'JWT_AUDIENCE: is needed for AUTH=jwt'],
    [{ AUTH: 'jwt', ...issuer, JWT_JWKS: '' }, 'JWT_JWKS: is needed for AUTH=jwt'],
    [
      { APP_ENV: 'staging', AUTH: 'jwt', ...issuer, JWT_JWKS: 'http://id.example/keys' },
      'JWT_JWKS: must begin with https:',
    ],
    [
      { APP_ENV: 'staging', AUTH: 'jwt', ...issuer, JWT_ISSUER: 'http://id.example' },
      'JWT_ISSUER: must begin with https:',
    ],
    [{ AUTH: 'jwt', ...issuer, JWT_ALGORITHMS: 'HS256' }, 'JWT_ALGORITHMS'],
    [{ AUTH: 'password' }, 'AUTH'],
  ])('with %j does not start: %s', (env, problem) => {
    expect(() => loadProducerConfig(env)).toThrow(problem);
  });
});
