/** Figures of a service, read from its Prometheus endpoint. */
export type ServiceFigures = {
  residentBytes: number;
  cpuSeconds: number;
  sqsRequests: number;
  ordersStored: number;
};

const SAMPLE = /^([a-z_]+)(?:\{[^}]*\})? ([-+.\deE]+)$/gm;

export async function readFigures(url: string): Promise<ServiceFigures> {
  const text = await (await fetch(`${url}/metrics`)).text();
  const sums = new Map<string, number>();
  for (const [, name = '', value] of text.matchAll(SAMPLE))
    sums.set(name, (sums.get(name) ?? 0) + Number(value));
  const sum = (name: string) => sums.get(name) ?? 0;
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
