import { scrape } from '../scripts/prometheus-text.ts';

/** Figures of a service, read from its Prometheus endpoint. */
export type ServiceFigures = {
  residentBytes: number;
  cpuSeconds: number;
  sqsRequests: number;
  ordersStored: number;
};

/** Figures of all that run of a service, by name. */
type Figures = ReadonlyMap<string, ServiceFigures>;

export async function readAll(urls: ReadonlyMap<string, string>): Promise<Figures> {
  return new Map(
    await Promise.all([...urls].map(async ([name, url]) => [name, await readFigures(url)] as const)),
  );
}

/** What was added between two readings; one that was not there before began at nothing. */
export function growth(
  before: Figures | undefined,
  after: Figures | undefined,
  pick: (figures: ServiceFigures) => number,
): number {
  return [...(after ?? [])].reduce((sum, [name, figures]) => {
    const earlier = before?.get(name);
    return sum + pick(figures) - (earlier ? pick(earlier) : 0);
  }, 0);
}

export async function readFigures(url: string): Promise<ServiceFigures> {
  const { sum } = await scrape(url);
  return {
    residentBytes: sum('process_resident_memory_bytes'),
    cpuSeconds: sum('process_cpu_seconds_total'),
    sqsRequests: sum('sqs_request_duration_seconds_count'),
    ordersStored: sum('orders_stored_total'),
  };
}

/** Watches the memory of services while something runs. */
export async function watchPeakMemory(
  urls: readonly string[],
  run: () => Promise<void>,
): Promise<Map<string, number>> {
  const peaks = new Map<string, number>();
  const sample = async () => {
    for (const url of urls) {
      const figures = await readFigures(url).catch(() => undefined);
      if (figures) peaks.set(url, Math.max(peaks.get(url) ?? 0, figures.residentBytes));
    }
  };
  const timer = setInterval(() => void sample(), 500);
  try {
    await run();
    await sample();
  } finally {
    clearInterval(timer);
  }
  return peaks;
}
