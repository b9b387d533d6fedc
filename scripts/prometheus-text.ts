export type Labels = Readonly<Record<string, string>>;

/** What a service's `/metrics` said. */
export type Metrics = {
  /** The sum of all samples with this name whose labels fit; 0 without one, as a counter with labels begins. */
  sum: (name: string, fits?: (labels: Labels) => boolean) => number;
  /** The same. @throws when there is no sample with this name */
  value: (name: string, fits?: (labels: Labels) => boolean) => number;
};

/** A value in quotes may hold a brace. A time after the value is left out. */
const SAMPLE = /^([a-zA-Z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})? +(\S+)/gm;
const LABEL = /(\w+)="((?:[^"\\]|\\.)*)"/g;

/** https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format */
export function parseMetrics(text: string): Metrics {
  const samples = Map.groupBy(
    [...text.matchAll(SAMPLE)].map(([, name = '', labels = '', value = '']) => ({
      name,
      labels: Object.fromEntries(
        [...labels.matchAll(LABEL)].map(([, label, quoted = '']) => [label, unquote(quoted)]),
      ),
      value: Number(value.replace('Inf', 'Infinity')),
    })),
    ({ name }) => name,
  );
  const sum: Metrics['sum'] = (name, fits = () => true) =>
    (samples.get(name) ?? []).reduce((sum, { labels, value }) => (fits(labels) ? sum + value : sum), 0);
  const value: Metrics['value'] = (name, fits) => {
    if (samples.has(name)) return sum(name, fits);
    throw new Error(`no sample of ${name}`);
  };
  return { sum, value };
}

const unquote = (quoted: string) => quoted.replace(/\\(.)/g, (_, char) => (char === 'n' ? '\n' : char));

/** @throws when the service does not answer with 200: nothing read would be taken for nothing counted */
export async function scrape(serviceUrl: string, init?: RequestInit): Promise<Metrics> {
  const response = await fetch(`${serviceUrl}/metrics`, init);
  if (!response.ok) throw new Error(`${serviceUrl}/metrics answers ${response.status}`);
  return parseMetrics(await response.text());
}
