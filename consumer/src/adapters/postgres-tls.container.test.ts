import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { PostgresServer } from '../../../dev/postgres-server.ts';
import { opensslAvailable, TestAuthority } from '../../../test/support/certificates.ts';
import { postgresPrograms } from '../../../test/support/postgres-programs.ts';
import { databaseUrl } from '../config.ts';
import { openOrderRepository } from './open-order-repository.ts';

const programs = postgresPrograms();
const openssl = opensslAvailable();
const reason = [programs, openssl].map((each) => each.reason).join(', ');

describe.skipIf(!programs.available || !openssl.available)(`PostgreSQL over TLS (${reason})`, () => {
  let server: PostgresServer;
  let plain: string;
  let authority: TestAuthority;
  beforeAll(async () => {
    authority = new TestAuthority();
    server = await PostgresServer.start(programs.postgres);
    plain = await server.createDatabase('orders');
  });
  afterAll(async () => {
    await server?.stop();
    authority[Symbol.dispose]();
  });

  async function open(caFile = authority.file, to = plain) {
    const url = new URL(to);
    url.password = 'hunter2';
    url.searchParams.set('sslmode', 'verify-full');
    const repository = await openOrderRepository(
      databaseUrl({ DATABASE_URL: url.href, DATABASE_CA_FILE: caFile }),
      { poolSize: 2, connectTimeoutMs: 5_000, statementTimeoutMs: 5_000 },
    );
    onTestFinished(() => repository.close());
    return repository;
  }

  it('that has no TLS, is refused', async () => {
    await expect(open()).rejects.toThrow(/DATABASE_URL: .*does not support SSL/);
  });

  it('whose certificate the CA signed, is used, and encrypted', async () => {
    await server.useTls(authority.issue());
    const repository = await open();
    await repository.ping();
    const versions = await server.sql(
      `SELECT DISTINCT version FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'order-consumer'`,
    );
    expect(versions).toEqual(['TLSv1.3']);
  });

  it.each([
    ['has expired', { days: -1 }, /CERT_HAS_EXPIRED.*clock is wrong: DATABASE_URL/],
    ['is for another name', { names: 'DNS:elsewhere' }, /another name than that in DATABASE_URL/],
  ])('whose certificate %s, is refused', async (_what, flaw, message) => {
    await server.useTls(authority.issue(flaw));
    const refused = open();
    await expect(refused).rejects.toThrow(message);
    await expect(refused).rejects.not.toThrow(/hunter2|sslmode/);
  });

  it('whose CA is another one, is refused, and DATABASE_CA_FILE is named', async () => {
    using another = new TestAuthority();
    await server.useTls(authority.issue());
    await expect(open(another.file)).rejects.toThrow(/no CA that is trusted .*: DATABASE_CA_FILE/);
  });

  it.each([
    ['is empty', ''],
    ['holds none', 'not a certificate'],
  ])('and a file of CAs that %s, does not fall back to the CAs of the system', async (_what, content) => {
    const file = path.join(path.dirname(authority.file), 'wrong.pem');
    writeFileSync(file, content);
    await expect(open(file)).rejects.toThrow(/DATABASE_CA_FILE: there is no PEM/);
    await expect(open(`${file}.missing`)).rejects.toThrow(/DATABASE_CA_FILE: ENOENT/);
  });

  it('that speaks TLS 1.1, is refused', async () => {
    await server.useTls({ ...authority.issue(), only: 'TLSv1.1' });
    await expect(open()).rejects.toThrow(/must speak TLS 1.2 or newer: DATABASE_URL/);
  });

  it('that is said not to have TLS by somebody in between, is sent nothing', async () => {
    const received: Buffer[] = [];
    const between = createServer((socket) => {
      socket
        .on('error', () => {})
        .on('data', (chunk) => {
          received.push(chunk);
          socket.write('N');
        });
    }).listen(0, '127.0.0.1');
    await once(between, 'listening');
    onTestFinished(() => void between.close());
    const { port } = between.address() as { port: number };
    await expect(open(undefined, `postgres://orders@127.0.0.1:${port}/orders`)).rejects.toThrow(/SSL/);
    // The request for TLS: https://www.postgresql.org/docs/current/protocol-message-formats.html, SSLRequest.
    expect(Buffer.concat(received).toString('hex')).toBe('0000000804d2162f');
  });
});
