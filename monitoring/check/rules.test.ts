import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { ALERT_RULES } from '../rules.ts';
import { findTool, ROOT, run } from './tools.ts';

const promtool = findTool('promtool');
const TESTS = globSync('monitoring/prometheus/tests/*.yml', { cwd: ROOT });

describe.skipIf(!promtool.program)(`rules (${promtool.reason})`, () => {
  it('Prometheus accepts them, and finds nothing to complain about', async () => {
    const answer = await run(promtool, 'check', 'rules', '--lint-fatal', 'monitoring/prometheus/rules.yml');
    expect(answer).toContain('SUCCESS');
  });

  it.each(TESTS)(
    'each alert fires at its threshold, not below, and resolves: %s',
    { timeout: 600_000 },
    async (file) => {
      expect(await run(promtool, 'test', 'rules', file)).toContain('SUCCESS');
    },
  );

  it('every alert has a test that sees it fire', () => {
    const tests = TESTS.map((file) => readFileSync(path.join(ROOT, file), 'utf8')).join('\n');
    const names = new Set(ALERT_RULES.map(({ alert }) => alert));
    expect([...names].filter((name) => !tests.includes(name))).toEqual([]);
  });
});
