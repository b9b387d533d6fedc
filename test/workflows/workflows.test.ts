import { globSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { actions, jobs, ROOT, read, type Workflow, workflows } from './workflows.ts';

describe.each([...workflows, ...actions])('%s', (file) => {
  it('pins what it uses of others by digest, and says which version that is', () => {
    for (const [line, used = ''] of read(file).matchAll(/^.*\buses: (\S+).*$/gm)) {
      if (!used.startsWith('./')) expect(line).toMatch(/@[0-9a-f]{40} # v\d+\.\d+\.\d+$/);
    }
  });
});

describe.each(workflows)('%s', (file) => {
  it('grants nothing but to single jobs', () => {
    expect((parse(read(file)) as Workflow).permissions).toEqual({});
  });
});

it.each(jobs)(
  'job $name of $file has a limit of time and its own permissions, no write-all',
  ({ file, job }) => {
    if (!job.uses) expect(job['timeout-minutes']).toBeTypeOf('number');
    expect(typeof (job.permissions ?? {})).toBe('object');
    const writes = Object.entries(job.permissions ?? {}).filter(([, access]) => access === 'write');
    // `actions`: release.yml starts deploy-production.yml.
    const allowed = file.endsWith('/release.yml') ? ['actions'] : ['id-token', 'security-events'];
    expect(allowed).toEqual(expect.arrayContaining(writes.map(([name]) => name)));
  },
);

it('each part of the cluster tests names some, and together they name all', () => {
  const parts = jobs.flatMap(({ job }) => job.strategy?.matrix?.['tests'] ?? []);
  const files = globSync('test/k8s/*.k8s.test.ts', { cwd: ROOT });
  expect(parts.filter((part) => !files.some((file) => file.includes(part)))).toEqual([]);
  expect(files.filter((file) => !parts.some((part) => file.includes(part)))).toEqual([]);
});
