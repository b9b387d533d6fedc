import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { Client } from 'pg';
import { afterEach, describe, expect, test, vi } from 'vitest';
import { parse } from 'yaml';

type Compose = { services: Record<string, { environment: Record<string, string> }> };
const compose: Compose = parse(
  readFileSync(path.join(import.meta.dirname, '..', 'docker-compose.dev.yml'), 'utf8'),
  { merge: true },
);

afterEach(() => vi.unstubAllEnvs());

test('docker-compose.dev.yml puts the password of PostgreSQL beside the URL, where any character may be in it', () => {
  const { DATABASE_URL, PGPASSWORD } = compose.services['consumer']?.environment ?? {};
  expect(PGPASSWORD).toBe(compose.services['postgres']?.environment['POSTGRES_PASSWORD']);
  expect(DATABASE_URL).not.toContain('$');
  vi.stubEnv('PGPASSWORD', '2024/sEcret@%');
  expect(new Client({ connectionString: DATABASE_URL })).toMatchObject({
    user: 'orders',
    host: 'postgres',
    password: '2024/sEcret@%',
  });
});

describe('docker-compose.monitoring.yml', () => {
  const ROOT = path.join(import.meta.dirname, '..');
  const { services }: { services: Record<string, { image: string; ports: string[]; volumes?: string[] }> } =
    parse(readFileSync(path.join(ROOT, 'docker-compose.monitoring.yml'), 'utf8'), { merge: true });
  const hasCompose = spawnSync('docker-compose', ['--version']).status === 0;

  test.skipIf(!hasCompose)('is accepted by docker-compose beside docker-compose.dev.yml', () => {
    const files = ['-f', 'docker-compose.dev.yml', '-f', 'docker-compose.monitoring.yml'];
    const { status, stderr, stdout } = spawnSync('docker-compose', [...files, 'config', '--services'], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    expect(status, stderr).toBe(0);
    expect(stdout.split('\n')).toEqual(
      expect.arrayContaining(['producer', 'consumer', 'prometheus', 'alertmanager', 'grafana', 'jaeger']),
    );
  });

  test('pins each image, and listens on loopback alone', () => {
    for (const { image, ports } of Object.values(services)) {
      expect(image).toMatch(/:v?\d+\.\d+\.\d+$/);
      for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    }
  });

  test('mounts only what is there: Docker would make a folder of what is not', () => {
    const mounted = Object.values(services).flatMap(({ volumes = [] }) =>
      volumes.map((volume) => volume.split(':')[0] ?? ''),
    );
    expect(mounted).toContain('./monitoring/prometheus/rules.yml');
    expect(mounted.filter((file) => !existsSync(path.join(ROOT, file)))).toEqual([]);
  });
});
