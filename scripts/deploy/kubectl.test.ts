import { describe, expect, test } from 'vitest';
import { Kubectl } from './kubectl.ts';

const failing = (stderr: string) => async () => ({ status: 1, stdout: '', stderr });

describe('kubectl', () => {
  test.each([
    ['error: You must be logged in to the server (Unauthorized)', 'UNAUTHORIZED'],
    [
      'error: You must be logged in to the server (the server has asked for the client to provide credentials)',
      'UNAUTHORIZED',
    ],
    ['Error from server (Forbidden): leases is forbidden: User "x" cannot', 'FORBIDDEN'],
    ['Error from server (NotFound): namespaces "staging" not found', 'NOT_FOUND'],
    ['Error from server (AlreadyExists): error when creating "STDIN"', 'ALREADY_EXISTS'],
    ['Error from server (Conflict): the object has been modified', 'CONFLICT'],
    ['The request is invalid: the server rejected our request due to an error in our request', 'CONFLICT'],
    [
      'The connection to the server 127.0.0.1:1 was refused - did you specify the right host or port?',
      'UNREACHABLE',
    ],
    ['Unable to connect to the server: dial tcp: i/o timeout', 'UNREACHABLE'],
    ['error: something else', 'KUBECTL'],
  ])('that says "%s" fails with %s', async (stderr, code) => {
    const kubectl = new Kubectl('staging', failing(stderr), 0);
    await expect(kubectl.run(['get', 'pods'])).rejects.toMatchObject({ code });
  });

  test('API server that comes back in time is asked again', async () => {
    const answers = [
      { status: 1, stdout: '', stderr: 'The connection to the server was refused' },
      { status: 0, stdout: 'done', stderr: '' },
    ];
    const kubectl = new Kubectl(
      'staging',
      async () => answers.shift() ?? expect.fail('asked too often'),
      5_000,
    );
    expect(await kubectl.run(['get', 'pods'])).toBe('done');
  });

  test('object that is not there is undefined; one that may not be seen is an error', async () => {
    const missing = new Kubectl('staging', failing('Error from server (NotFound): x'));
    expect(await missing.find('deployment', 'x')).toBeUndefined();
    const refused = new Kubectl('staging', failing('Error from server (Forbidden): x is forbidden'));
    await expect(refused.find('deployment', 'x')).rejects.toMatchObject({ code: 'FORBIDDEN' });
  });
});
