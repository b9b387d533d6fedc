import { captureLog } from '@orders/shared/testing/log-lines.ts';
import { Client } from 'pg';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { startEmulator } from '../../dev/emulator.ts';
import { freePorts } from '../../dev/port-owner.ts';
import { PostgresServer } from '../../dev/postgres-server.ts';
import { postgresPrograms } from '../../test/support/postgres-programs.ts';
import { startConsumer } from './app.ts';
import { loadConsumerConfig } from './config.ts';

const programs = postgresPrograms();

describe.skipIf(!programs.available)(`order-consumer and PostgreSQL (${programs.reason})`, () => {
  it('startConsumer, while another process holds the lock of migrations, is alive, not ready, and says for whom it waits', async () => {
    const server = await PostgresServer.start(programs.postgres);
    onTestFinished(() => server.stop());
    const url = await server.createDatabase('orders');
    const emulator = await startEmulator({ port: 0 });
    onTestFinished(() => emulator.stop());
    const holder = new Client({ connectionString: url, application_name: 'somebody' });
    await holder.connect();
    onTestFinished(() => holder.end());
    await holder.query('BEGIN; SELECT pg_advisory_xact_lock(7203615004)');

    const [port = 0] = await freePorts(1);
    const config = loadConsumerConfig({
      APP_ENV: 'dev',
      AWS_ENDPOINT_URL: emulator.endpoint,
      DATABASE_URL: url,
      SQS_WAIT_TIME_SECONDS: '1',
      CONSUMER_PORT: String(port),
    });
    const { logger, lines } = captureLog();
    const starting = startConsumer(config, logger, 'test', () => {});
    await vi.waitFor(
      () =>
        expect(lines).toContainEqual(
          expect.objectContaining({
            level: 'WARN',
            message: 'waiting for another process that holds the lock of migrations',
            holder: expect.objectContaining({ application: 'somebody' }),
          }),
        ),
      30_000,
    );
    const answers = async () =>
      Promise.all(
        ['livez', 'readyz', 'orders?customerId=C-1'].map(
          async (path) => (await fetch(`http://127.0.0.1:${port}/${path}`)).status,
        ),
      );
    expect(await answers()).toEqual([200, 503, 503]);

    await holder.query('COMMIT');
    const consumer = await starting;
    onTestFinished(() => consumer.stop());
    expect(await answers()).toEqual([200, 200, 200]);
  });

  it('startConsumer, with a database that cannot be opened, fails and leaves its port', async () => {
    const emulator = await startEmulator({ port: 0 });
    onTestFinished(() => emulator.stop());
    const [port = 0] = await freePorts(1);
    const config = loadConsumerConfig({
      APP_ENV: 'dev',
      AWS_ENDPOINT_URL: emulator.endpoint,
      DATABASE_URL: 'postgres://orders@127.0.0.1:1/orders',
      CONSUMER_PORT: String(port),
    });
    const started = startConsumer(config, captureLog().logger, 'test', () => {});
    await expect(started).rejects.toMatchObject({ code: 'STARTUP' });
    await expect(fetch(`http://127.0.0.1:${port}/livez`)).rejects.toMatchObject({
      cause: { code: 'ECONNREFUSED' },
    });
  });
});
