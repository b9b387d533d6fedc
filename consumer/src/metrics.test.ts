import { expect, it } from 'vitest';
import { createConsumerMetrics } from './metrics.ts';

it('outcomes that alerts count are there from the start: a rate does not see a series that begins at 40', async () => {
  const page = await createConsumerMetrics('test').registry.metrics();
  for (const outcome of ['processed', 'duplicate', 'retry', 'rejected'])
    expect(page).toMatch(new RegExp(`^orders_processed_total\\{outcome="${outcome}".* 0$`, 'm'));
});
