import { afterAll, beforeAll, describe } from 'vitest';
import type { Backend, RunningBackend, RunningStore, Store } from './backends.ts';

/** What the tests of a pairing run on: there once they run, not while they are described. */
export type Running = { backend: RunningBackend; store: RunningStore };

/** Tests on one SQS and one store, started before them and stopped after; skipped, with the reason, where one is missing. */
export async function describeOn(
  backend: Backend,
  store: Store,
  tests: (running: () => Running) => void,
): Promise<void> {
  const found = [await backend.availability(), await store.availability()];
  const missing = found.find(({ available }) => !available);
  const reason = missing?.reason ?? found[0]?.reason;
  describe.skipIf(missing)(`${backend.name} and ${store.name} (${reason})`, () => {
    let runningBackend: RunningBackend;
    let runningStore: RunningStore;
    beforeAll(async () => {
      [runningBackend, runningStore] = await Promise.all([backend.start(), store.start()]);
    });
    afterAll(async () => {
      await Promise.all([runningBackend?.stop(), runningStore?.stop()]);
    });
    tests(() => ({ backend: runningBackend, store: runningStore }));
  });
}
