import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Environment } from '@orders/shared/runtime/config.ts';
import { expect } from 'vitest';
import { type PipelineEvent, startPipeline } from '../../dev/pipeline.ts';
import { SERVICE_FLAGS } from '../../dev/services.ts';
import { scrape } from '../../scripts/prometheus-text.ts';
import { type FoundQueues, findQueues } from '../support/queues.ts';
import { MAX_PEAK_BYTES, peakBytes } from '../support/watched-process.ts';

const SAMPLE_MS = 250;
const OLD_SPACE_LIMIT_BYTES =
  Number(/--max-old-space-size=(\d+)/.exec(SERVICE_FLAGS.join())?.[1]) * 1024 ** 2;
const SERVICES = ['producer', 'consumer'] as const;

export type HostileScene = AsyncDisposable & {
  producerUrl: string;
  consumerUrl: string;
  queues: FoundQueues;
  consumerPid: () => number;
  /** What must hold however long the input was: nothing died or failed as a whole, and memory has room. */
  isWell: () => Promise<void>;
};

/**
 * Both services as processes with the flags of V8 that they have in the images, the embedded emulator and store, and a
 * watch over the old space of their heaps.
 */
export async function openHostileScene(env: Environment = {}): Promise<HostileScene> {
  const dataDir = await mkdtemp(path.join(tmpdir(), 'hostile-'));
  const died: PipelineEvent[] = [];
  const pipeline = await startPipeline({
    ports: 'free',
    quiet: true,
    dataDir,
    onEvent: (event) => {
      if (event.type !== 'complaint') died.push(event);
    },
    baseEnv: { PATH: process.env['PATH'], ...env },
  });
  const { producerUrl, consumerUrl } = pipeline;
  const urls = { producer: producerUrl, consumer: consumerUrl };
  const queues = await findQueues(pipeline.endpoint);

  const peaks = { producer: 0, consumer: 0 };
  const watching = new AbortController();
  const watch = async () => {
    while (!watching.signal.aborted) {
      for (const service of SERVICES) {
        const { value } = await scrape(urls[service]);
        const oldSpace = value('nodejs_heap_space_size_used_bytes', ({ space }) => space === 'old');
        peaks[service] = Math.max(peaks[service], oldSpace);
      }
      await sleep(SAMPLE_MS, undefined, { signal: watching.signal }).catch(() => {});
    }
  };
  const watched = watch();
  watched.catch(() => {});

  return {
    producerUrl,
    consumerUrl,
    queues,
    consumerPid: () => pipeline.pid('consumer') ?? 0,
    isWell: async () => {
      expect(died).toEqual([]);
      for (const service of SERVICES)
        expect(await badLines(path.join(dataDir, 'logs', `${service}.log`))).toEqual([]);
      watching.abort();
      await watched;
      for (const service of SERVICES) {
        expect(peakBytes(pipeline.pid(service) ?? 0)).toBeLessThanOrEqual(MAX_PEAK_BYTES);
        console.log(`${service}: old space ${Math.round(peaks[service] / 1024 ** 2)} MB at most`);
        expect(peaks[service]).toBeGreaterThan(0);
        expect(peaks[service]).toBeLessThanOrEqual(OLD_SPACE_LIMIT_BYTES / 2);
      }
    },
    [Symbol.asyncDispose]: async () => {
      watching.abort();
      await watched.catch(() => {});
      queues[Symbol.dispose]();
      await pipeline.stop();
      await rm(dataDir, { recursive: true });
    },
  };
}

async function badLines(logFile: string): Promise<string[]> {
  const bad: string[] = [];
  for await (const line of createInterface({ input: createReadStream(logFile) }))
    if (line.includes('"level":"FATAL"') || line.includes('"message":"poll failed"')) bad.push(line);
  return bad;
}
