import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { commonFields, type Environment, integer, loadConfig, sqsEndpoint, withRules } from './config.ts';
import { StartupError } from './startup-error.ts';

const schema = z.object({
  ...commonFields,
  POOL: integer(1, 10).default(3),
  REQUIRED: z.string().default('given'),
});
const load = (env: Environment) => loadConfig(schema, env);

function failureOf(env: Environment): StartupError {
  try {
    load(env);
  } catch (error) {
    if (error instanceof StartupError) return error;
  }
  throw new Error('the configuration was taken');
}

describe('loadConfig', () => {
  it('loadConfig, given an empty environment, returns the documented defaults', () => {
    expect(load({})).toMatchObject({
      APP_ENV: 'dev',
      AWS_REGION: 'ap-northeast-2',
      ORDER_QUEUE_NAME: 'order-queue',
      ORDER_DLQ_NAME: 'order-dlq',
      HOST: '127.0.0.1',
      LOG_LEVEL: 'info',
    });
  });

  it('loadConfig, of numbers as text, reads them as numbers', () => {
    expect(load({ POOL: '7' }).POOL).toBe(7);
  });

  it.each(['', ' ', '\t'])('loadConfig, given a variable set to %j, treats it as not set', (blank) => {
    expect(load({ POOL: blank, APP_ENV: blank, AWS_ENDPOINT_URL: blank })).toEqual(load({}));
  });

  it('loadConfig, of variables it does not know, leaves them out', () => {
    expect(load({ PATH: '/bin', AWS_SECRET_ACCESS_KEY: 'secret' })).toEqual(load({}));
  });

  it('loadConfig, given several wrong variables, reports all of them in one message', () => {
    const { message } = failureOf({
      APP_ENV: 'prod',
      POOL: '11',
      LOG_LEVEL: 'loud',
      AWS_ENDPOINT_URL: 'localhost:4566',
    });
    const lines = message.split('\n');
    expect(lines[0]).toBe('configuration is wrong:');
    expect(lines.slice(1).map((line) => line.trim().split(':')[0])).toEqual([
      'APP_ENV',
      'AWS_ENDPOINT_URL',
      'LOG_LEVEL',
      'POOL',
    ]);
  });

  it.each(['abc', '1.5', '0', '11', 'NaN', 'Infinity', '1,000'])(
    'loadConfig, given the whole number %s, refuses it',
    (POOL) => {
      expect(failureOf({ POOL }).message).toContain('POOL: ');
    },
  );

  it.each([
    [{ POOL: 'ten' }, 'POOL: must be a number, not "ten"'],
    [{ POOL: '1.5' }, 'POOL: must be a whole number, not "1.5"'],
    [{ POOL: '11' }, 'POOL: Too big: expected number to be <=10, not "11"'],
    [{ AWS_ENDPOINT_URL: 'localhost:4566' }, 'AWS_ENDPOINT_URL: must be a URL such as http://localhost:4566'],
  ])('loadConfig, of %j, says what is wrong with it', (env, message) => {
    expect(failureOf(env).message).toContain(message);
  });

  it('loadConfig, given a wrong secret, does not repeat its value', () => {
    expect(failureOf({ AWS_ENDPOINT_URL: 'ftp://user:hunter2@host' }).message).not.toContain('hunter2');
  });
});

describe('sqsEndpoint', () => {
  it.each([
    // In development nobody drains a queue of AWS for want of a setting.
    [{}, 'http://127.0.0.1:4566'],
    [{ APP_ENV: 'staging' }, undefined],
    [{ APP_ENV: 'production' }, undefined],
    [{ AWS_ENDPOINT_URL: 'aws' }, undefined],
    [{ AWS_ENDPOINT_URL_SQS: 'aws', AWS_ENDPOINT_URL: 'http://a:1' }, undefined],
    [{ AWS_ENDPOINT_URL: 'http://a:1' }, 'http://a:1'],
    [{ AWS_ENDPOINT_URL: 'http://a:1', AWS_ENDPOINT_URL_SQS: 'http://b:2' }, 'http://b:2'],
  ])('sqsEndpoint, of %j, is %s', (env, endpoint) => {
    expect(sqsEndpoint(load(env))).toBe(endpoint);
  });
});

describe('outside dev', () => {
  const ruled = withRules(z.object(commonFields), []);
  const staging = { APP_ENV: 'staging' };

  it.each([
    [{ ...staging, AWS_ENDPOINT_URL: 'http://sqs:1' }, 'AWS_ENDPOINT_URL: must begin with https:'],
    [{ ...staging, AWS_ENDPOINT_URL: 'HTTP://sqs:1' }, 'AWS_ENDPOINT_URL: must begin with https:'],
    [{ ...staging, AWS_ENDPOINT_URL_SQS: 'http://sqs:1' }, 'AWS_ENDPOINT_URL_SQS: must begin with https:'],
    [
      { ...staging, AWS_ENDPOINT_URL: 'http://sqs:1', ALLOW_PLAINTEXT: 'database' },
      'AWS_ENDPOINT_URL: must begin with https:',
    ],
    [{ APP_ENV: 'production', AWS_ENDPOINT_URL: 'http://sqs:1' }, 'AWS_ENDPOINT_URL: must begin with https:'],
    // The SDK asks them for credentials.
    ...['STS', 'SSO', 'SSO_OIDC', 'SIGNIN'].map((service): [Record<string, string>, string] => [
      { ...staging, [`AWS_ENDPOINT_URL_${service}`]: 'http://sqs:1' },
      `AWS_ENDPOINT_URL_${service}: must begin with https:`,
    ]),
    [{ ...staging, AWS_ENDPOINT_URL_STS: 'aws' }, 'AWS_ENDPOINT_URL_STS: must be a URL'],
    [{ APP_ENV: 'production', ALLOW_PLAINTEXT: 'sqs' }, 'ALLOW_PLAINTEXT: is for tests, and refused'],
    [{ ...staging, ALLOW_PLAINTEXT: 'all' }, 'ALLOW_PLAINTEXT'],
    [{ ...staging, NODE_TLS_REJECT_UNAUTHORIZED: '0' }, 'NODE_TLS_REJECT_UNAUTHORIZED: must not be 0'],
  ])('loadConfig, of %j, refuses it and repeats no address: %s', (env, message) => {
    const load = () => loadConfig(ruled, env);
    expect(load).toThrow(StartupError);
    expect(load).toThrow(message);
    expect(load).not.toThrow('sqs:1');
  });

  it.each([
    { ...staging, AWS_ENDPOINT_URL: 'https://sqs:1' },
    { ...staging, AWS_ENDPOINT_URL: 'aws' },
    { ...staging, AWS_ENDPOINT_URL_STS: 'https://sts:1' },
    { ...staging, AWS_ENDPOINT_URL: 'http://sqs:1', ALLOW_PLAINTEXT: 'sqs' },
    { APP_ENV: 'dev', AWS_ENDPOINT_URL: 'http://sqs:1', NODE_TLS_REJECT_UNAUTHORIZED: '0' },
  ])('loadConfig, of %j, takes it', (env) => {
    expect(loadConfig(ruled, env)).toMatchObject({ APP_ENV: env.APP_ENV });
  });
});
