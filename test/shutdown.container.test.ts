import { afterAll, beforeAll, describe } from 'vitest';
import {
  BACKENDS,
  type Backend,
  type RunningBackend,
  type RunningStore,
  STORES,
  type Store,
} from './backends.ts';
import { describeStopUnderLoad, openScene } from './shutdown-scene.ts';

async function describeOn(backend: Backend, store: Store): Promise<void> {
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
    describeStopUnderLoad('SIGTERM under load', async (options) =>
      openScene(options, { ...runningBackend.env, DATABASE_URL: await runningStore.newDatabase() }),
    );
  });
}

await describeOn(BACKENDS.localStack4, STORES.sqlite);
await describeOn(BACKENDS.localStack4, STORES.postgres);
await describeOn(BACKENDS.localStack3, STORES.sqlite);
await describeOn(BACKENDS.elasticMq, STORES.sqlite);
