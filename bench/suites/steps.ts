import { ORDERS_A_STEP } from '../peers/stepped-store.ts';
import { startSink } from '../servers/start.ts';
import type { Suite } from '../suite.ts';
import { consumerOf, OURS, shared } from './consume.ts';

const MOST = 500;
const FIXED = [40, 60, 100, 150, 200, 300, 400];

/** A store whose latency goes from 5 to 50 ms and back: a limit that follows it, against every fixed one. */
export const steps: Suite = {
  run: async ({ compete, quick }) => {
    const sink = await startSink();
    const peer = (name: string, env: NodeJS.ProcessEnv) =>
      consumerOf(
        {
          ...OURS,
          name,
          settings: Object.entries(env)
            .map((entry) => entry.join('='))
            .join(' '),
          args: ['stepped-store'],
          env: { POLLERS: '10', ...env },
        },
        shared(sink),
      );
    try {
      const limits = quick ? FIXED.slice(2, 3) : FIXED;
      return [
        await compete(
          {
            title: 'Messages in work, across a step in the latency of the store',
            reference: 'adaptive',
            contestants: [
              peer('adaptive', { MIN_IN_WORK: '10', MAX_IN_WORK: String(MOST) }),
              ...limits.map((limit) => peer(`fixed at ${limit}`, { MAX_IN_WORK: String(limit) })),
            ],
          },
          quick ? {} : { rounds: 3, warmMs: 0, measureMs: 60_000, orders: 2.9 * ORDERS_A_STEP },
        ),
      ];
    } finally {
      await sink.stop();
    }
  },
};
