import { execFile, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';

export const ROOT = path.join(import.meta.dirname, '..', '..');

/** Names under which Debian, or the projects' own releases, install each. */
const PROGRAMS = {
  promtool: ['promtool'],
  amtool: ['amtool'],
  prometheus: ['prometheus'],
  alertmanager: ['prometheus-alertmanager', 'alertmanager'],
} as const;

export type Tool = { program: string | undefined; reason: string };

/** Without it, Debian's Alertmanager answers `--version` and does not start. */
const DEBIAN_TEMPLATES = '/usr/share/prometheus/alertmanager/default.tmpl';

/** @throws where it is missing, and REQUIRE_MONITORING=1 says it must be there */
export function findTool(name: keyof typeof PROGRAMS): Tool {
  const program = PROGRAMS[name].find(
    (candidate) =>
      spawnSync(candidate, ['--version'], { stdio: 'ignore' }).error === undefined &&
      (candidate !== 'prometheus-alertmanager' || existsSync(DEBIAN_TEMPLATES)),
  );
  if (program) return { program, reason: name };
  const missing =
    name === 'alertmanager' ? `not on the PATH, or Debian's without ${DEBIAN_TEMPLATES}` : 'not on the PATH';
  const reason = `${name} is ${missing}; on Debian and Ubuntu: apt-get install prometheus prometheus-alertmanager`;
  if (process.env['REQUIRE_MONITORING'] === '1') throw new Error(`REQUIRE_MONITORING=1, and ${reason}`);
  return { program: undefined, reason };
}

/** Its output. @throws with its output when it fails */
export async function run({ program, reason }: Tool, ...args: string[]): Promise<string> {
  if (!program) throw new Error(reason);
  try {
    const { stdout, stderr } = await promisify(execFile)(program, args, { cwd: ROOT });
    return stdout + stderr;
  } catch (error) {
    const { stdout = '', stderr = '' } = error as { stdout?: string; stderr?: string };
    throw new Error(`${program} ${args.join(' ')}\n${stdout}${stderr}`, { cause: error });
  }
}
