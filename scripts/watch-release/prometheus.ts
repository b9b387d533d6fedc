import type { Figure } from '../judge.ts';

export type Prometheus = { url: string; token?: string | undefined; timeoutMs?: number };

/**
 * Asks for the one value of a query. NaN, which is a share of nothing, is no value. Never throws: whatever is in the way
 * is the answer.
 * https://prometheus.io/docs/prometheus/latest/querying/api/#instant-queries
 */
export async function ask({ url, token, timeoutMs = 10_000 }: Prometheus, query: string): Promise<Figure> {
  try {
    const response = await fetch(`${url.replace(/\/+$/, '')}/api/v1/query`, {
      method: 'POST',
      body: new URLSearchParams({ query }),
      headers: token ? { authorization: `Bearer ${token}` } : {},
      signal: AbortSignal.timeout(timeoutMs),
    });
    const { status, error, data } = (await response.json()) as {
      status?: string;
      error?: string;
      data?: { resultType: string; result: { value: [number, string] }[] };
    };
    if (status !== 'success' || data?.resultType !== 'vector') {
      return new Error(`Prometheus answers ${response.status}: ${error ?? 'no vector'}`);
    }
    if (data.result.length > 1) return new Error(`${data.result.length} values, where one is expected`);
    const value = Number(data.result[0]?.value[1] ?? Number.NaN);
    return Number.isNaN(value) ? undefined : value;
  } catch (cause) {
    return new Error(`Prometheus does not answer: ${cause instanceof Error ? cause.message : cause}`, {
      cause,
    });
  }
}
