import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { startSink } from '../servers/start.ts';
import type { Suite } from '../suite.ts';
import { BATCH_HANDLER, consumerOf, MESSAGE_HANDLER, OURS, RAW, shared, TOOLKIT } from './consume.ts';

/** The same with the embedded store behind it: peers read the order with our codec and do the same SQL. */
export const store: Suite = {
  run: async ({ compete }) => {
    const sink = await startSink();
    const folder = await mkdtemp(path.join(tmpdir(), 'bench-store-'));
    let files = 0;
    const storeFile = () => path.join(folder, `${files++}.db`);
    try {
      return [
        await compete({
          title: 'Consume into the embedded store',
          reference: OURS.name,
          contestants: [OURS, BATCH_HANDLER, MESSAGE_HANDLER, TOOLKIT, RAW].map((peer) =>
            consumerOf(peer, shared(sink), { storeFile }),
          ),
        }),
      ];
    } finally {
      await sink.stop();
      await rm(folder, { recursive: true });
    }
  },
};
