import type { JudgedBar } from './bars.ts';
import { type ContestResult, MEASURES, type Measure, ratio, round, type Spread, spread } from './contest.ts';

/** Markdown. Each cell is the median; where they differ, with the least and the most. */
const cells = (values: string[]) => `| ${values.join(' | ')} |`;
const table = (head: string[], rows: string[][]) =>
  [cells(head), cells(head.map(() => '---')), ...rows.map(cells)].join('\n');

function range({ median, min, max }: Spread): string {
  const [least, most] = [round(min), round(max)];
  return least === most ? least : `${round(median)} (${least} … ${most})`;
}

/** Each contestant with its settings and figures; ratios are taken round by round. */
export function contestTable({ reference, rows }: ContestResult): string {
  const measures = (Object.keys(MEASURES) as Measure[]).filter((measure) =>
    rows.some((row) => spread(row, measure)),
  );
  const mine = rows.find(({ name }) => name === reference);
  const comparable = rows.length > 1 && rows.some((row) => spread(row, 'perSecond'));
  const head = [
    '',
    ...measures.map((measure) => MEASURES[measure]),
    ...(comparable ? [`of ${reference}`] : []),
    'settings',
  ];
  return table(
    head,
    rows.map((row) => {
      const share = ratio(row, mine, 'perSecond');
      return [
        row.name,
        ...measures.map((measure) => {
          const value = spread(row, measure);
          return value ? range(value) : '';
        }),
        ...(comparable ? [row === mine || !share ? '1' : range(share)] : []),
        row.settings,
      ];
    }),
  );
}

export function barsTable(bars: JudgedBar[]): string {
  const rows = bars.map(({ what, target, measured, met, byCpu }) => [
    what,
    target,
    range(measured),
    met ? 'met' : '**not met**',
    byCpu ? range(byCpu) : '',
  ]);
  return table(['', 'target', 'measured', '', 'by CPU'], rows);
}
