import { describe, expect, it } from 'vitest';
import { judge } from '../../bench/bars.ts';
import { compete, type Figures, type Row, ratio, round, spreadOf } from '../../bench/contest.ts';
import type { Results } from '../../bench/results.ts';
import { growth, type ServiceFigures } from '../../bench/service-metrics.ts';
import { contestTable } from '../../bench/tables.ts';

const row = (name: string, ...runs: Figures[]): Row => ({ name, settings: '', runs });
const results = (title: string, ...rows: Row[]): Results => [
  {
    suite: 'any',
    at: '',
    machine: '',
    load: { before: 0, after: 0 },
    contests: [{ title, reference: '', rows }],
  },
];

describe('figures of the benchmarks', () => {
  it('what the pods of a service have done is the sum of what each has, a new one from nothing', () => {
    const pod = (ordersStored: number): ServiceFigures => ({
      residentBytes: 0,
      cpuSeconds: 0,
      sqsRequests: 0,
      ordersStored,
    });
    const before = new Map([
      ['a', pod(100)],
      ['b', pod(200)],
    ]);
    const after = new Map([
      ['a', pod(110)],
      ['b', pod(205)],
      ['added by an autoscaler', pod(7)],
    ]);
    expect(growth(before, after, ({ ordersStored }) => ordersStored)).toBe(22);
  });

  it('the spread of an even number of values has the mean of the middle two as median', () => {
    expect(spreadOf([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 });
  });

  it('a ratio is taken round by round, so that a slow machine in one round does not count', () => {
    const mine = row('mine', { perSecond: 200 }, { perSecond: 20 });
    const other = row('other', { perSecond: 100 }, { perSecond: 10 });

    expect(ratio(mine, other, 'perSecond')).toEqual({ median: 2, min: 2, max: 2 });
  });

  it('contestants take turns, and another one begins each round', async () => {
    const order: string[] = [];
    const run = (name: string) => async () => {
      order.push(name);
      return {};
    };
    const contestant = (name: string) => ({ name, settings: '', run: run(name) });
    const contest = { title: '', reference: 'a', contestants: ['a', 'b'].map(contestant) };

    const { rows } = await compete(contest, { warmMs: 0, measureMs: 0, rounds: 2 }, () => {});

    expect(order).toEqual(['a', 'b', 'b', 'a']);
    expect(rows.map(({ runs }) => runs.length)).toEqual([2, 2]);
  });

  it.each([
    [0.41, true],
    [0.39, false],
  ])('the bar of HTTP, at %s of bare Fastify, is met: %s', (share, met) => {
    const measured = results(
      'HTTP, 50 connections',
      row('order-producer', { perSecond: share * 1_000 }),
      row('bare Fastify', { perSecond: 1_000 }),
    );

    expect(judge(measured)).toMatchObject([{ what: 'HTTP: orders/s of bare Fastify', met }]);
  });

  it.each([
    [100, false],
    [105, true],
  ])('publishing with %s requests per 1,000 orders costs too many: %s', (requestsPer1000, tooMany) => {
    const [bar] = judge(results('Publish', row('order-producer', { requestsPer1000 })));

    expect(bar?.costsTooManyRequests).toBe(tooMany);
  });

  it.each([
    [110, true],
    [90, false],
  ])(
    'an adaptive limit with %s orders/s, where the best fixed one has 100, meets its bar: %s',
    (perSecond, met) => {
      const measured = results(
        'Messages in work, across a step',
        row('adaptive', { perSecond }),
        row('fixed at 10', { perSecond: 50 }),
        row('fixed at 20', { perSecond: 100 }),
        row('fixed at 40', { perSecond: 80 }),
      );

      expect(judge(measured)).toMatchObject([{ measured: { median: perSecond / 100 }, met }]);
    },
  );

  it('each figure is shown with its spread, but one that is the same in all rounds', () => {
    const runs = [
      { cpuPer10000: 0.5, requestsPer1000: 200, peakMegabytes: 145, p50Ms: 4, p99Ms: 13 },
      { cpuPer10000: 0.6, requestsPer1000: 200.1, peakMegabytes: 148, p50Ms: 4, p99Ms: 9 },
      { cpuPer10000: 0.7, requestsPer1000: 199.9, peakMegabytes: 146, p50Ms: 4, p99Ms: 15 },
    ];

    const table = contestTable({ title: '', reference: 'mine', rows: [row('mine', ...runs)] });

    expect(table).toContain('| mine | 0.6 (0.5 … 0.7) | 200 | 146 (145 … 148) | 4 | 13 (9 … 15) |');
  });

  it('numbers are shown with three digits that count', () => {
    expect([0.1234, 12.345, 1234.5].map(round)).toEqual(['0.12', '12.3', '1,235']);
  });
});
