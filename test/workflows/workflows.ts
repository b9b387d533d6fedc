import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';

/** A step of a job. */
export type Step = { uses?: string; run?: string };
type Job = {
  uses?: string;
  steps?: Step[];
  'timeout-minutes'?: number;
  strategy?: { matrix?: Record<string, string[]> };
  permissions?: Record<string, string>;
};
export type Workflow = { permissions?: object; jobs: Record<string, Job> };

export const ROOT = path.join(import.meta.dirname, '..', '..');
export const SCRIPTS: Record<string, string> = JSON.parse(
  readFileSync(path.join(ROOT, 'package.json'), 'utf8'),
).scripts;
export const read = (file: string) => readFileSync(path.join(ROOT, file), 'utf8');
export const workflows = globSync('.github/workflows/*.yml', { cwd: ROOT });
export const actions = globSync('.github/actions/*/action.yml', { cwd: ROOT });
export const jobs = workflows.flatMap((file) =>
  Object.entries((parse(read(file)) as Workflow).jobs).map(([name, job]) => ({ file, name, job })),
);
export const steps: Step[] = [
  ...jobs.flatMap(({ job }) => job.steps ?? []),
  ...actions.flatMap((file): Step[] => parse(read(file)).runs.steps),
];
