import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { json, text } from 'node:stream/consumers';
import { kubectlFor } from './cluster.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

export type Script = 'deploy' | 'rollback' | 'verify-deployment';
export type Outcome = {
  status: number;
  said: string;
  /** When it was said that a check has failed, in ms since 1970; 0 if never. */
  decidedAt: number;
};

export type Operator = Awaited<ReturnType<typeof startOperator>>;

/**
 * Types the commands of a deployment, with the rights of the pipeline and no others; only the Secrets of the local
 * backends are ours to apply.
 */
export async function startOperator({ namespace, sqsUrl }: { namespace: string; sqsUrl: () => string }) {
  const folder = await mkdtemp(path.join(tmpdir(), 'deploy-'));
  const kubeconfig = path.join(folder, 'kubeconfig');
  const credentials = await becomeDeployer(namespace);
  const logIn = () => writeFile(kubeconfig, JSON.stringify(credentials));
  await logIn();
  const alerts: { severity: string; text: string }[] = [];
  const webhook = http.createServer(async (request, response) => {
    alerts.push((await json(request)) as (typeof alerts)[number]);
    response.end();
  });
  await new Promise<void>((resolve) => webhook.listen(0, '127.0.0.1', resolve));

  /** A command as an operator types it, and all it says. */
  const start = (script: Script, args: string[] = [], env: Record<string, string> = {}) => {
    const startedAt = performance.now();
    const child = spawn(path.join('scripts', `${script}.sh`), [namespace, ...args], {
      cwd: ROOT,
      env: {
        ...process.env,
        KUBECONFIG: kubeconfig,
        AWS_ENDPOINT_URL: sqsUrl(),
        ALLOW_PLAINTEXT: 'sqs',
        ALERT_WEBHOOK_URL: `http://127.0.0.1:${(webhook.address() as AddressInfo).port}`,
        AWS_ACCESS_KEY_ID: 'test',
        AWS_SECRET_ACCESS_KEY: 'test',
        ...env,
      },
    });
    const seconds = () => ((performance.now() - startedAt) / 1_000).toFixed(0).padStart(3);
    const said: string[] = [];
    const shown = [`$ scripts/${script}.sh ${namespace} ${args.join(' ')}`];
    let decidedAt = 0;
    const lines = createInterface({ input: child.stdout }).on('line', (line) => {
      said.push(line);
      shown.push(`${seconds()} s  ${line}`);
      if (line.startsWith('FAILED:')) decidedAt = Date.now();
    });
    const ended = Promise.all([once(child, 'close'), once(lines, 'close'), text(child.stderr)]);
    const outcome = ended.then(([[status], _, stderr]): Outcome => {
      if (process.env['SHOW_OUTPUT']) console.log([...shown, `${seconds()} s  ${stderr}`].join('\n'));
      return { status, said: [...said, stderr].join('\n'), decidedAt };
    });
    return { child, outcome };
  };

  return {
    start,
    alerts,
    logIn,
    /** From now on kubectl is refused; it reads its configuration with each call. */
    tokenExpires: () => writeFile(kubeconfig, JSON.stringify(withUser(credentials, { token: 'expired' }))),
    /** A file with a cluster that does not answer. */
    clusterAway: async () => {
      const file = path.join(folder, 'away');
      const away = structuredClone(credentials);
      away.clusters[0].cluster.server = 'https://127.0.0.1:1';
      await writeFile(file, JSON.stringify(away));
      return file;
    },
    stop: async () => {
      webhook.close();
      await rm(folder, { recursive: true });
    },
  };
}

function withUser(config: { users: { user: object }[] }, user: object) {
  const copy = structuredClone(config);
  for (const each of copy.users) each.user = user;
  return copy;
}

async function becomeDeployer(namespace: string) {
  const kubectl = kubectlFor(namespace);
  await kubectl('apply', '-k', 'k8s/deployer');
  await kubectl('create', 'role', 'local-secrets', '--verb=get,create,patch', '--resource=secrets');
  await kubectl('create', 'rolebinding', 'local-secrets', '--role=local-secrets', '--group=order-deployers');
  const config = JSON.parse(await kubectl('config', 'view', '--raw', '--minify', '-o', 'json'));
  Object.assign(config.users[0].user, {
    as: 'pipeline',
    'as-groups': ['order-deployers', 'system:authenticated'],
  });
  return config;
}
