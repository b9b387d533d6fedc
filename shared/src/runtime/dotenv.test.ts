import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { loadDotenv } from './dotenv.ts';

describe('loadDotenv', () => {
  let folder: string;
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'dotenv-'));
    vi.spyOn(process, 'cwd').mockReturnValue(folder);
    writeFileSync(join(folder, '.env'), 'LOG_LEVEL=debug\nHOST=0.0.0.0\n');
  });
  afterEach(() => {
    vi.restoreAllMocks();
    rmSync(folder, { recursive: true });
  });
  const loaded = (env: NodeJS.ProcessEnv) => {
    loadDotenv(env);
    return env;
  };

  it.each([{}, { APP_ENV: '' }, { APP_ENV: 'dev' }])('loadDotenv, in %j, adds what the file says', (env) => {
    expect(loaded({ ...env })).toEqual({ ...env, LOG_LEVEL: 'debug', HOST: '0.0.0.0' });
  });

  it('loadDotenv, given a variable that is set already, leaves it', () => {
    expect(loaded({ LOG_LEVEL: 'warn' })['LOG_LEVEL']).toBe('warn');
  });

  it.each(['staging', 'production'])('loadDotenv, in %s, reads nothing', (APP_ENV) => {
    expect(loaded({ APP_ENV })).toEqual({ APP_ENV });
  });

  it.each([
    ['AWS_ENDPOINT_URL', 'dev'],
    ['AWS_ENDPOINT_URL_SQS', 'production'],
  ])('loadDotenv, with %s=aws in %s, keeps the SDK from taking that for an address', (name, APP_ENV) => {
    expect(loaded({ [name]: 'aws', APP_ENV })).toMatchObject({ AWS_IGNORE_CONFIGURED_ENDPOINT_URLS: 'true' });
    expect(loaded({ APP_ENV })['AWS_IGNORE_CONFIGURED_ENDPOINT_URLS']).toBeUndefined();
  });

  it('loadDotenv, without a file, changes nothing', () => {
    rmSync(join(folder, '.env'));
    expect(loaded({})).toEqual({});
  });
});
