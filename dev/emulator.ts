import { readFileSync, statSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { DatabaseSync } from 'node:sqlite';
import { commonFields, loadConfig } from '@orders/shared/runtime/config.ts';
import { loadDotenv } from '@orders/shared/runtime/dotenv.ts';
import { createLogger } from '@orders/shared/runtime/logger.ts';
import { runService } from '@orders/shared/runtime/service.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { type BuildAppOptions, buildApp } from 'fauxqs';
import { z } from 'zod';
import { emulatorPort } from './pipeline-ports.ts';

export type EmulatorOptions = {
  /** 0 takes a free one. */
  port: number;
  /** Where queues and messages are kept; by default in memory only. */
  dataDir?: string;
  region?: string;
};

export type Emulator = { endpoint: string; stop: () => Promise<void> };

export const EMULATOR_REGION = 'ap-northeast-2';
const LOOPBACK = '127.0.0.1';

type SqsStore = NonNullable<BuildAppOptions['stores']>['sqsStore'];
/** What is used of fauxqs' own persistence, which its package does not export. */
type Persistence = {
  db: DatabaseSync;
  loadSqsAndSns: (
    sqsStore: SqsStore,
    snsStore: { topics: Map<string, unknown>; subscriptions: Map<string, unknown> },
  ) => void;
};

/**
 * An SQS for development and tests: fauxqs, on the loopback interface only, one region whatever a client signs for,
 * any credentials. Queue URLs name a host that need not resolve and the port of the day they were created on;
 * only their path counts, so they stay valid after a restart on another port.
 *
 * With `dataDir`, queues and messages outlive the process. What was answered is in the file: **a kill -9 loses
 * nothing that was confirmed** (fauxqs alone writes statement by statement, and a kill inside its move to the
 * DLQ loses the message). A request that a kill leaves without an answer is done as a whole or not at all, and its
 * client cannot tell which. Messages in flight stay invisible until their deadline. What a kill does lose is the
 * memory of FIFO deduplication.
 * @throws {StartupError} when the port is taken, or the directory is in use or of another region
 */
export async function startEmulator({
  port,
  dataDir,
  region = EMULATOR_REGION,
}: EmulatorOptions): Promise<Emulator> {
  const { SqsStore } = await fauxqsModule<{ SqsStore: new () => SqsStore }>('./sqs/sqsStore.js');
  const sqsStore = new SqsStore();
  const file = dataDir === undefined ? undefined : await openQueueFile(dataDir, sqsStore, region);
  const stores = { sqsStore } as NonNullable<BuildAppOptions['stores']>;
  const app = buildApp({ logger: false, defaultRegion: region, stores });
  app.addHook('onRequest', async ({ headers }) => {
    // A second region would share the names of the first in the file, and replace its queues.
    delete headers.authorization;
  });
  if (file) {
    app.addHook('onSend', async (_request, _reply, payload) => {
      await file.committed();
      if (!file.isThere()) throw new Error('the file of the queues was deleted: what it took would be lost');
      return payload;
    });
  }
  try {
    await app.listen({ host: LOOPBACK, port });
  } catch (error) {
    file?.close();
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    const reason = code === 'EADDRINUSE' ? 'is taken by another process' : `cannot be listened on (${code})`;
    throw new StartupError(`port ${port} ${reason}: set EMULATOR_PORT`, { cause: error });
  }
  return {
    endpoint: `http://${LOOPBACK}:${(app.server.address() as AddressInfo).port}`,
    stop: async () => {
      await app.close();
      await file?.committed();
      file?.close();
    },
  };
}

type QueueFile = {
  committed: () => Promise<void> | undefined;
  /** Not deleted, nor another: to a deleted one SQLite goes on writing without an error. */
  isThere: () => boolean;
  close: () => void;
};

/**
 * Gives the store its content, and from then on writes what it does to the file: all that one turn of the event loop
 * does in one transaction, answered after its commit. A commit that fails ends the process, which knows more than
 * the file then.
 */
async function openQueueFile(dataDir: string, sqsStore: SqsStore, region: string): Promise<QueueFile> {
  const { PersistenceManager } = await fauxqsModule<{
    PersistenceManager: new (dataDir: string) => Persistence;
  }>('./persistence.js');
  const persistence = open(PersistenceManager, dataDir);
  const { db } = persistence;
  persistence.loadSqsAndSns(sqsStore, { topics: new Map(), subscriptions: new Map() });
  const stranger = [...sqsStore.allQueues()].find(({ arn }) => arn.split(':')[3] !== region);
  if (stranger) {
    db.close();
    throw new StartupError(
      `${dataDir} holds ${stranger.arn}, not of ${region}: give the emulator another directory`,
    );
  }

  let pending: Promise<void> | undefined;
  const begin = () => {
    if (pending) return;
    db.exec('BEGIN');
    pending = new Promise((resolve) => {
      setImmediate(() => {
        db.exec('COMMIT');
        pending = undefined;
        resolve();
      });
    });
  };
  // fauxqs sets the receive count to NULL here, which its own schema refuses: the message would be gone until a restart.
  const ready = db.prepare(
    'UPDATE sqs_messages SET receipt_handle = NULL, visibility_deadline = NULL WHERE message_id = ?',
  );
  const writes = { updateMessageReady: (messageId: string) => ready.run(messageId) };
  const grouped = new Proxy(persistence, {
    get:
      (target, name) =>
      (...values: unknown[]) => {
        begin();
        const write = Reflect.get(name in writes ? writes : target, name) as (
          ...values: unknown[]
        ) => unknown;
        return write.apply(target, values);
      },
  }) as unknown as NonNullable<SqsStore['persistence']>;
  sqsStore.persistence = grouped;
  for (const queue of sqsStore.allQueues()) queue.persistence = grouped;
  const path = db.location() ?? '';
  const { ino } = statSync(path);
  const isThere = () => statSync(path, { throwIfNoEntry: false })?.ino === ino;
  return { committed: () => pending, isThere, close: () => db.close() };
}

/** One process a directory: two would each overwrite what the other does not know. */
function open(PersistenceManager: new (dataDir: string) => Persistence, dataDir: string): Persistence {
  try {
    const persistence = new PersistenceManager(dataDir);
    persistence.db.exec('PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE; COMMIT');
    return persistence;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    const hint = /locked/.test(reason)
      ? 'another emulator uses it; DATA_DIR of npm start chooses another'
      : reason;
    throw new StartupError(`cannot keep queues in ${dataDir}: ${hint} (EMULATOR_DATA_DIR)`, { cause: error });
  }
}

function fauxqsModule<T>(path: string): Promise<T> {
  return import(new URL(path, import.meta.resolve('fauxqs')).href) as Promise<T>;
}

const emulatorConfigSchema = z.object({
  APP_ENV: commonFields.APP_ENV,
  LOG_LEVEL: commonFields.LOG_LEVEL,
  EMULATOR_PORT: emulatorPort,
  EMULATOR_DATA_DIR: z
    .string()
    .min(1)
    .optional()
    .describe('where it keeps its queues; in memory only by default'),
});

if (import.meta.main) {
  await runService(process, 'sqs-emulator', async () => {
    loadDotenv(process.env);
    const config = loadConfig(emulatorConfigSchema, process.env);
    const fauxqs = JSON.parse(
      readFileSync(new URL('../package.json', import.meta.resolve('fauxqs')), 'utf8'),
    );
    const logger = createLogger({ ...config, service: 'sqs-emulator', version: fauxqs.version });
    const dataDir = config.EMULATOR_DATA_DIR;
    const { endpoint, stop } = await startEmulator({
      port: config.EMULATOR_PORT,
      ...(dataDir ? { dataDir } : {}),
    });
    if (dataDir) {
      logger.info(
        { dataDir },
        'queues are kept: a kill -9 loses nothing confirmed; FIFO deduplication starts anew',
      );
    } else {
      logger.warn(
        'QUEUES ARE IN MEMORY ONLY: the end of this process loses every message; EMULATOR_DATA_DIR keeps them',
      );
    }
    logger.info({ endpoint, region: EMULATOR_REGION }, 'ready');
    return { logger, shutdownGraceMs: 10_000, stop };
  });
}
