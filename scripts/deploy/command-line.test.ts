import { describe, expect, test } from 'vitest';
import { UsageError } from '../sqs-tool.ts';
import { parseArguments } from './command-line.ts';

const parse = (...args: string[]) =>
  parseArguments(args, ['image-tag', 'overlay', 'dry-run', 'watch-seconds', 'timeout-seconds'], 'usage');

describe('command line', () => {
  test('environment and tag are enough', () => {
    expect(parse('production', '--image-tag=1.4.0')).toEqual({
      environment: 'production',
      imageTag: '1.4.0',
      overlay: 'k8s/overlays/production',
      dryRun: false,
      isFirst: false,
      watchSeconds: 60,
      rolloutTimeoutSeconds: 180,
      lockWaitSeconds: 0,
    });
  });

  test('rollback names one release, or one a service, and waits for the lock', () => {
    const rollback = (...args: string[]) =>
      parseArguments(args, ['to', 'lock-wait-seconds'], 'usage', { lockWaitSeconds: 90 });
    expect(rollback('staging', '--to=1.3.0')).toMatchObject({ to: '1.3.0', lockWaitSeconds: 90 });
    expect(rollback('staging', '--to=1.3.0,1.3.1', '--lock-wait-seconds=5')).toMatchObject({
      to: '1.3.0,1.3.1',
      lockWaitSeconds: 5,
    });
    for (const bad of ['--to=', '--to=latest', '--to=1,', '--to=1,2,3'])
      expect(() => rollback('staging', bad)).toThrow(UsageError);
  });

  test.each([
    [[]],
    [['prod', '--image-tag=1']],
    [['staging', 'production']],
    [['staging', '--image-tag=latest']],
    [['staging', '--image-tag=a b']],
    [['staging', '--image-tag=']],
    [['staging', '--tag=1']],
    [['staging', '--to=1']],
    [['staging', '--watch-seconds=soon']],
    [['staging', '--watch-seconds=0']],
  ])('%j is refused', (args) => expect(() => parse(...args)).toThrow(UsageError));
});
