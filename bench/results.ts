import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import path from 'node:path';
import type { ContestResult } from './contest.ts';

/** The runs of one suite in one sitting, and what the machine was like. */
export type SuiteResult = {
  suite: string;
  at: string;
  machine: string;
  /** Of one minute, before and after: above a few tenths before, others were at work as well. */
  load: { before: number; after: number };
  contests: ContestResult[];
};
export type Results = SuiteResult[];

const FOLDER = path.join(import.meta.dirname, 'results');

const fileOf = (name: string) => path.join(FOLDER, `${name}.ndjson`);

/** What was kept last under that name. */
export function kept<T>(name: string): T | undefined {
  return existsSync(fileOf(name)) ? JSON.parse(readFileSync(fileOf(name), 'utf8')) : undefined;
}

export function keep(name: string, result: object): void {
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(fileOf(name), `${JSON.stringify(result)}\n`);
}

export const machine = () =>
  `${availableParallelism()} cores, ${cpus()[0]?.model.trim() ?? 'unknown'}, Node ${process.versions.node}`;

export const load = () => Math.round((loadavg()[0] ?? 0) * 10) / 10;
