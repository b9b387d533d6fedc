import { describe, expect, test } from 'vitest';
import { parseCommand, UsageError } from '../command.ts';
import { command as deploy } from '../deploy.ts';
import { command as rollback } from '../rollback.ts';

describe('command line', () => {
  test('environment and tag are enough', () => {
    const values = parseCommand(deploy, ['production', '--image-tag=1.4.0']);
    expect(values).toMatchObject({ environment: 'production', 'image-tag': '1.4.0', 'timeout-seconds': 180 });
    expect(values).toMatchObject({ 'dry-run': false, first: false, 'watch-seconds': undefined });
  });

  test('rollback names one release, or one for each service, and waits for the lock', () => {
    const parse = (...args: string[]) => parseCommand(rollback, args);
    expect(parse('staging', '--to=1.3.0')).toMatchObject({ to: '1.3.0', 'lock-wait-seconds': 90 });
    expect(parse('staging', '--to=1.3.0,1.3.1', '--lock-wait-seconds=5')).toMatchObject({
      to: '1.3.0,1.3.1',
      'lock-wait-seconds': 5,
    });
    for (const bad of ['--to=', '--to=latest', '--to=1,', '--to=1,2,3'])
      expect(() => parse('staging', bad)).toThrow(UsageError);
  });

  test.each([
    [[]],
    [['prod', '--image-tag=1']],
    [['staging']],
    [['staging', 'production', '--image-tag=1']],
    [['staging', '--image-tag=latest']],
    [['staging', '--image-tag=a b']],
    [['staging', '--image-tag=']],
    [['staging', '--image-tag=1', '--tag=1']],
    [['staging', '--image-tag=1', '--to=1']],
    [['staging', '--image-tag=1', '--overlay=']],
    [['staging', '--image-tag=1', '--watch-seconds=soon']],
    [['staging', '--image-tag=1', '--watch-seconds=0']],
  ])('%j is refused', (args) => expect(() => parseCommand(deploy, args)).toThrow(UsageError));

  test('an empty tag is told to be empty, not about "latest"', () => {
    expect(() => parseCommand(deploy, ['staging', '--image-tag='])).toThrow('--image-tag is empty');
  });
});
