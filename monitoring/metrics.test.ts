import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { metricOf, PLATFORM_METRICS, seriesIn, serviceMetrics, usesOfMetrics } from './metrics-page.ts';
import { DASHBOARDS } from './panels.ts';
import { ALERT_RULES, RECORDING_RULES } from './rules.ts';

const ROOT = path.join(import.meta.dirname, '..');
const metrics = serviceMetrics();
const isExported = (series: string) => metrics.has(metricOf(series, metrics)) || series in PLATFORM_METRICS;
const uses = usesOfMetrics(metrics);

describe('metrics', () => {
  it('that dashboards and rules look at are exported', () => {
    expect([...uses.keys()].filter((name) => !isExported(name))).toEqual([]);
    expect(uses.size).toBeGreaterThan(30);
  });

  it('that recording rules read are exported, and each recorded figure is used', () => {
    const recorded = RECORDING_RULES.map(({ record }) => record);
    const read = RECORDING_RULES.flatMap(({ expr }) => seriesIn(expr));
    expect(read.filter((name) => !isExported(name))).toEqual([]);
    const expressions = [
      ...ALERT_RULES,
      ...DASHBOARDS.flatMap(({ rows }) =>
        rows.flatMap(({ panels }) => panels.flatMap(({ queries }) => queries)),
      ),
    ].map(({ expr }) => expr);
    const used = new Set(expressions.flatMap(seriesIn));
    expect(recorded.filter((name) => !used.has(name))).toEqual([]);
  });

  it('that docs and scripts name are exported', () => {
    const pages = globSync(['README*.md', 'docs/**/*.md', 'k8s/*.md'], { cwd: ROOT });
    const SERIES =
      /\b(?:orders?|sqs|http_server|store|circuit_breaker|api_key|encryption_key|database_login|secret|nodejs|process)_[a-z0-9_]+_(?:total|seconds|bytes|connections|state|messages|limit|flight)(?:_(?:sum|count|bucket))?\b/g;
    const named = pages.flatMap((page) =>
      [...readFileSync(path.join(ROOT, page), 'utf8').matchAll(SERIES)].map(([name]) => name),
    );
    expect(named.length).toBeGreaterThan(20);
    expect([...new Set(named)].filter((name) => !isExported(name))).toEqual([]);
  });

  // Whoever adds a metric adds it to a panel or an alert, or says here why nobody looks at it.
  it('of the services that nobody looks at: none', () => {
    const unwatched = [...metrics.keys()].filter(
      (name) => !/^(nodejs|process)_/.test(name) && !uses.has(name),
    );
    expect(unwatched).toEqual([]);
  });

  it('of the platform are all used', () => {
    expect(Object.keys(PLATFORM_METRICS).filter((name) => !uses.has(name))).toEqual([]);
  });
});

it('every panel has a unit, a description and a query', () => {
  for (const { title, unit, description, queries } of DASHBOARDS.flatMap(({ rows }) =>
    rows.flatMap(({ panels }) => panels),
  ))
    expect([title, unit && description && queries.length > 0]).toEqual([title, true]);
});

it.each([
  [
    'sum by (le, pod) (rate(a_b_bucket{le="0.1",c_d=~"x"}[5m])) / on (e_f) group_left (g_h) i:j:k',
    ['a_b_bucket', 'i:j:k'],
  ],
  ['count(build_info offset 10m) unless vector(0) > bool 1', ['build_info']],
])('series in %s', (expr, expected) => {
  expect(seriesIn(expr)).toEqual(expected);
});
