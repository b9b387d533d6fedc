import { type ContestResult, MEASURES, type Measure, round, spread } from './contest.ts';

/** SVG, readable on white and on black. */
const WIDTH = 760;
const FONT = 'font-family="system-ui, sans-serif" font-size="13" fill="#808080"';
const [MINE, OTHERS] = ['#2f81f7', '#9aa4b0'];

const svg = (height: number, title: string, parts: string[]) =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}">`,
    `<title>${escaped(title)}</title>`,
    text(0, 18, title),
    ...parts,
    '</svg>\n',
  ].join('\n');
const escaped = (text: string) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const text = (x: number, y: number, content: string, anchor = 'start') =>
  `<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" text-anchor="${anchor}" ${FONT}>${escaped(content)}</text>`;

/** A bar a contestant with its median, and a line from the least to the most. This project's own stand out. */
export function barPlot({ title, rows }: ContestResult, measure: Measure): string {
  const [left, right, step, top] = [230, 90, 28, 34];
  const spreads = rows.map((row) => spread(row, measure));
  const scale = (WIDTH - left - right) / Math.max(...spreads.map((value) => value?.max ?? 0));
  const parts = rows.flatMap(({ name }, index) => {
    const value = spreads[index];
    const y = top + index * step;
    if (!value) return [];
    const { median, min, max } = value;
    const middle = y + step / 2 - 4;
    return [
      text(left - 8, y + 15, name, 'end'),
      `<rect x="${left}" y="${y}" width="${(median * scale).toFixed(1)}" height="${step - 8}" fill="${name.startsWith('order-') ? MINE : OTHERS}"/>`,
      `<path d="M${(left + min * scale).toFixed(1)} ${middle}H${(left + max * scale).toFixed(1)}" stroke="#57606a" stroke-width="2"/>`,
      text(left + max * scale + 6, y + 15, round(median)),
    ];
  });
  return svg(top + rows.length * step, `${title}: ${MEASURES[measure]}`, parts);
}

/** A curve over the contestants' names, which are numbers; the axis is logarithmic where they are far apart. */
export function linePlot({ title, rows }: ContestResult, measure: Measure): string {
  const [left, bottom, top, height] = [70, 34, 40, 260];
  const points = rows.flatMap((row) => {
    const value = spread(row, measure);
    return value ? [{ x: Number(row.name), name: row.name, ...value }] : [];
  });
  const largest = points.at(-1)?.x ?? 1;
  const far = largest > 50 * Math.max(1, points[0]?.x ?? 1);
  const place = (x: number) => (far ? Math.log10(Math.max(1, x)) : x);
  const [from, to] = [place(points[0]?.x ?? 0), place(largest)];
  const across = (x: number) => left + ((place(x) - from) / (to - from || 1)) * (WIDTH - left - 40);
  const most = Math.max(...points.map(({ max }) => max));
  const up = (y: number) => height - bottom - (y / most) * (height - bottom - top);
  const spot = ({ x, median }: { x: number; median: number }) =>
    `${across(x).toFixed(1)} ${up(median).toFixed(1)}`;
  return svg(height, `${title}: ${MEASURES[measure]}`, [
    `<path d="M${left} ${top}V${height - bottom}H${WIDTH - 40}" fill="none" stroke="#808080"/>`,
    `<path d="M${points.map(spot).join('L')}" fill="none" stroke="${MINE}" stroke-width="2"/>`,
    ...points.flatMap((point) => [
      `<path d="M${across(point.x).toFixed(1)} ${up(point.min).toFixed(1)}V${up(point.max).toFixed(1)}" stroke="#57606a" stroke-width="2"/>`,
      `<circle cx="${across(point.x).toFixed(1)}" cy="${up(point.median).toFixed(1)}" r="4" fill="${MINE}"/>`,
      text(across(point.x), up(point.max) - 8, round(point.median), 'middle'),
      text(across(point.x), height - bottom + 18, Number(point.name).toLocaleString('en-US'), 'middle'),
    ]),
  ]);
}
