import { describe, expect, it } from 'vitest';
import { findTool, run } from './tools.ts';

const amtool = findTool('amtool');
const CONFIG = 'monitoring/alertmanager/alertmanager.yml';

describe.skipIf(!amtool.program)(`Alertmanager's configuration (${amtool.reason})`, () => {
  it('is accepted', async () => {
    expect(await run(amtool, 'check-config', CONFIG)).toContain('SUCCESS');
  });

  // Who is told in the end. When, is in unit tests.
  it.each([
    ['critical', 'devops,backend,architect,cto,vp-engineering'],
    ['high', 'devops,backend,engineering-manager'],
    ['medium', 'devops,backend,team-lead'],
    ['low', 'devops,owner'],
  ])('urgency %s reaches %s', async (urgency, receivers) => {
    const args = ['config', 'routes', 'test', `--config.file=${CONFIG}`, 'alertname=QueueDepthHigh'];
    expect((await run(amtool, ...args, `urgency=${urgency}`)).split('\n')[0]).toBe(receivers);
  });

  it("other teams' alerts reach nobody of this team", async () => {
    const args = ['config', 'routes', 'test', `--config.file=${CONFIG}`, 'alertname=NodeDown'];
    expect((await run(amtool, ...args, 'severity=critical')).split('\n')[0]).toBe('nobody');
  });
});
