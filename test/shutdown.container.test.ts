import { afterAll, beforeAll, describe } from 'vitest';
import { BACKENDS, type Backend, type RunningBackend } from './backends.ts';
import { describeStopUnderLoad, openScene } from './shutdown-scene.ts';

async function describeOn(backend: Backend): Promise<void> {
  const { available, reason } = await backend.availability();
  describe.skipIf(!available)(`${backend.name} (${reason})`, () => {
    let running: RunningBackend;
    beforeAll(async () => {
      running = await backend.start();
    });
    afterAll(async () => running?.stop());
    describeStopUnderLoad('SIGTERM under load', (options) => openScene(options, running.env));
  });
}

await describeOn(BACKENDS.localStack4);
await describeOn(BACKENDS.elasticMq);
