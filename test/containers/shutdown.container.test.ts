import { BACKENDS, type Backend, STORES, type Store } from '../support/backends.ts';
import { describeOn } from '../support/on-backend.ts';
import { describeStopUnderLoad, openScene } from '../support/shutdown-scene.ts';

const describeStop = (backend: Backend, store: Store) =>
  describeOn(backend, store, (running) =>
    describeStopUnderLoad('SIGTERM under load', async (options) => {
      const { backend, store } = running();
      return openScene(options, { ...backend.env, DATABASE_URL: await store.newDatabase() });
    }),
  );

await describeStop(BACKENDS.localStack4, STORES.sqlite);
await describeStop(BACKENDS.localStack4, STORES.postgres);
await describeStop(BACKENDS.localStack3, STORES.sqlite);
await describeStop(BACKENDS.elasticMq, STORES.sqlite);
await describeStop(BACKENDS.given, STORES.sqlite);
