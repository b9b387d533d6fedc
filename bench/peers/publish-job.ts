import { count, ready } from '../probe.ts';

/** What a contestant that publishes is told. */
export type PublishJob = { endpoint: string; queueUrl: string; batchesInFlight: number };

export const job: PublishJob = JSON.parse(String(process.argv[2]));

/** So many callers, each of which publishes so many orders, waits for the confirmation, and begins again. */
export function publishForever(
  { lanes, orders }: { lanes: number; orders: number },
  publish: () => Promise<unknown>,
): void {
  const lane = async () => {
    for (;;) {
      await publish();
      count('handled', orders);
    }
  };
  for (let index = 0; index < lanes; index++) void lane();
  ready();
}
