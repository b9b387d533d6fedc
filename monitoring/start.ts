import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { stringify } from 'yaml';
import { defineCommand, runCommand } from '../scripts/command.ts';
import { alertmanagerConfig } from './alertmanager.ts';
import { findTool, ROOT } from './check/tools.ts';
import { readContacts } from './contacts.ts';
import { prometheusConfig } from './prometheus.ts';

const READY_WITHIN_MS = 60_000;
/** Prometheus writes what it holds when it is told to stop. */
const STOP_WITHIN_MS = 30_000;
const COMPOSE = 'docker-compose -f docker-compose.dev.yml -f docker-compose.monitoring.yml up -d --build';

export const command = defineCommand({
  name: 'npm run monitoring',
  summary:
    'Starts Prometheus with the alerts, and Alertmanager, beside npm start, as far as they are installed, and says what is missing. Ctrl-C stops them. Alerts are shown, and sent to nobody.',
  positionals: {},
  options: {},
  changes: 'keeps series, silences and logs in .data/monitoring (DATA_DIR).',
  needs:
    'prometheus and prometheus-alertmanager on the PATH. PROMETHEUS_PORT and ALERTMANAGER_PORT choose other ports, PRODUCER_PORT and CONSUMER_PORT say where the services listen.',
  exitStatuses: {
    0: 'stopped',
    1: 'nothing to start is installed, one did not become ready, or one ended by itself',
  },
});

if (import.meta.main) {
  await runCommand(command, main);
  process.exit();
}

async function main(): Promise<number> {
  const prometheusPort = port('PROMETHEUS_PORT', 9_090);
  const alertmanagerPort = port('ALERTMANAGER_PORT', 9_093);
  const tools = { prometheus: findTool('prometheus'), alertmanager: findTool('alertmanager') };
  for (const { program, reason } of Object.values(tools)) if (!program) console.log(`Missing: ${reason}`);
  console.log(`Not started by this command: Grafana and Jaeger. With Docker: ${COMPOSE}`);
  if (!tools.prometheus.program && !tools.alertmanager.program)
    throw new StartupError('neither Prometheus nor Alertmanager is installed');

  const folder = path.resolve(process.env['DATA_DIR'] ?? path.join(ROOT, '.data'), 'monitoring');
  await mkdir(folder, { recursive: true });
  const file = async (name: string, content: unknown) => {
    const target = path.join(folder, name);
    await writeFile(target, stringify(content));
    return target;
  };
  const children: ChildProcess[] = [];
  const stopped = Promise.withResolvers<number>();
  const stop = (status: number) => stopped.resolve(status);
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stop(0));

  async function run(name: string, program: string, listensOn: number, args: readonly string[]) {
    const url = `http://127.0.0.1:${listensOn}`;
    const log = path.join(folder, `${name}.log`);
    const output = openSync(log, 'a');
    const child = spawn(program, [...args, `--web.listen-address=127.0.0.1:${listensOn}`], {
      stdio: ['ignore', output, output],
    });
    closeSync(output);
    children.push(child);
    child.once('exit', (status, signal) => {
      console.log(`${name} ended with ${status ?? signal}; its log: ${log}`);
      stop(1);
    });
    child.once('error', () => stop(1));
    const giveUpAt = performance.now() + READY_WITHIN_MS;
    while (
      !(await fetch(`${url}/-/ready`).then(
        ({ ok }) => ok,
        () => false,
      ))
    ) {
      // What answers may be another one that has this port: ours has ended then.
      if (running(child) && performance.now() < giveUpAt) await sleep(100);
      else throw new StartupError(`${name} did not become ready at ${url}; its log: ${log}`);
    }
    console.log(`${name}: ${url}`);
  }

  try {
    if (tools.alertmanager.program) {
      const config = await file('alertmanager.yml', alertmanagerConfig(readContacts(), {}));
      // Without an address for a cluster: it would listen on all of them.
      await run('alertmanager', tools.alertmanager.program, alertmanagerPort, [
        `--config.file=${config}`,
        '--cluster.listen-address=',
        `--storage.path=${path.join(folder, 'alertmanager')}`,
      ]);
    }
    if (tools.prometheus.program) {
      const config = await file(
        'prometheus.yml',
        prometheusConfig({
          targets: [
            { address: `127.0.0.1:${port('PRODUCER_PORT', 8_080)}`, service: 'order-producer' },
            { address: `127.0.0.1:${port('CONSUMER_PORT', 8_081)}`, service: 'order-consumer' },
          ],
          rules: path.join(ROOT, 'monitoring/prometheus/rules.yml'),
          alertmanager: `127.0.0.1:${alertmanagerPort}`,
        }),
      );
      await run('prometheus', tools.prometheus.program, prometheusPort, [
        `--config.file=${config}`,
        `--storage.tsdb.path=${path.join(folder, 'prometheus')}`,
      ]);
    }
    return await stopped.promise;
  } finally {
    await Promise.all(children.map(end));
  }
}

function running({ pid, exitCode, signalCode }: ChildProcess): boolean {
  return pid !== undefined && exitCode === null && signalCode === null;
}

async function end(child: ChildProcess): Promise<void> {
  if (!running(child)) return;
  child.removeAllListeners('exit');
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const kill = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS);
  await ended;
  clearTimeout(kill);
}

function port(variable: string, otherwise: number): number {
  const text = process.env[variable];
  if (!text) return otherwise;
  const number = Number(text);
  if (!Number.isInteger(number) || number < 1 || number > 65_535)
    throw new StartupError(`${variable} must be a port, from 1 to 65535`);
  return number;
}
