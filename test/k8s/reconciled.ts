import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { vi } from 'vitest';
import type { Report } from '../../scripts/reconcile/reconciliation.ts';
import { forwardPort } from './cluster.ts';

const TOOL = path.join(import.meta.dirname, '..', '..', 'scripts', 'reconcile.ts');
const SETTLE_MS = 90_000;

/** What no accepted order may be. */
export const NOTHING_WRONG = { missing: 0, unresolved: 0, deadLettered: 0, storedTwice: 0, inFlight: 0 };

/**
 * What became of the orders that clients saw accepted: the report of `scripts/reconcile.sh`, over the namespace's own
 * SQS and PostgreSQL, once the queue is empty or 90 s have passed.
 */
export async function reconciled(namespace: string, acceptedIds: readonly string[]): Promise<Report> {
  const folder = await mkdtemp(path.join(tmpdir(), 'order-k8s-'));
  await using postgres = await forwardPort(namespace, 'service/postgres', 5432);
  await using localstack = await forwardPort(namespace, 'service/localstack', 4566);
  const journal = path.join(folder, 'accepted.ndjson');
  const acceptedAt = new Date().toISOString();
  const line = (orderId: string) => `${JSON.stringify({ journal: 'accepted', orderId, acceptedAt })}\n`;
  await writeFile(journal, acceptedIds.map(line).join(''));
  const env = {
    PATH: process.env['PATH'],
    DATABASE_URL: `postgres://orders:orders@127.0.0.1:${postgres.port}/orders`,
    AWS_ENDPOINT_URL: `http://127.0.0.1:${localstack.port}`,
  };
  const read = () =>
    new Promise<Report>((resolve, reject) => {
      execFile(process.execPath, [TOOL, 'dev', journal, '--json'], { env }, (error, stdout, stderr) => {
        if (stdout.startsWith('{')) resolve(JSON.parse(stdout) as Report);
        else reject(error ?? new Error(stderr));
      });
    });
  try {
    return await vi.waitFor(
      async () => {
        const report = await read();
        if (report.inFlight > 0) throw new Error(`${report.inFlight} messages are still queued`);
        return report;
      },
      { timeout: SETTLE_MS, interval: 1_000 },
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}
