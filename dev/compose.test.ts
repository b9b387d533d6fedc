import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Client } from 'pg';
import { afterEach, expect, test, vi } from 'vitest';
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
