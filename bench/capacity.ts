import { PRICES } from '../infra/prices.ts';
import { round } from './contest.ts';
import { keep, kept, load, machine } from './results.ts';

type Service = { peakMegabytes: number; cpuSeconds: number; sqsRequestsPer1000: number };
/** What the performance test measured. */
export type CapacityReport = {
  messages: number;
  concurrent: number;
  stored: number;
  seconds: number;
  ordersPerSecond: number;
  responseMs: { mean: number; p99: number };
  acceptedToStoredMs: { p50: number; p99: number };
  producer: Service;
  consumer: Service;
};
export type Capacity = { at: string; machine: string; load: number; report: CapacityReport };

const NAME = 'capacity';

export function keepCapacity(report: CapacityReport): void {
  const capacity: Capacity = { at: new Date().toISOString(), machine: machine(), load: load(), report };
  keep(NAME, capacity);
}

export const keptCapacity = () => kept<Capacity>(NAME);

/** For the capacity plan: what one pod of each service does. */
export function capacitySection({ at, machine, load, report }: Capacity): string {
  const { stored, producer, consumer } = report;
  const row = (name: string, { cpuSeconds, peakMegabytes, sqsRequestsPer1000 }: Service) =>
    `| ${name} | ${round(stored / cpuSeconds)} | ${peakMegabytes} | ${round(sqsRequestsPer1000)} | ${round(
      sqsRequestsPer1000 * 1_000 * (PRICES.sqsRequests.dollars / 1e6),
    )} |`;
  return `## Capacity of a pod

\`scripts/performance-test.sh --messages=${report.messages} --concurrent=${report.concurrent}\`, ${at.slice(0, 16).replace('T', ' ')} UTC, ${machine}, load average ${load} (including
the test): ${round(report.ordersPerSecond)} orders/s with emulator, both services and load generator on one machine; responses in ${report.responseMs.mean} ms
on average (p99 ${report.responseMs.p99}), stored ${report.acceptedToStoredMs.p50} ms later at the median (p99 ${report.acceptedToStoredMs.p99}).

| | orders/s per CPU core | peak RSS MB | SQS requests per 1,000 orders | their price per million orders, US$ |
| --- | --- | --- | --- | --- |
${row('order-producer', producer)}
${row('order-consumer', consumer)}

Orders/s per core is the number of stored orders divided by the CPU seconds the service used: the maximum of a pod with one core.
Plan for half of it. Prices are list prices of standard queues, for orders below 6 KB.
`;
}
