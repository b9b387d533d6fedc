import { execFile } from 'node:child_process';
import { mkdir, readdir, readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';
import type { Resource } from './cluster.ts';

const run = promisify(execFile);
const ROOT = path.join(import.meta.dirname, '..', '..');
const CACHE = path.join(ROOT, 'node_modules', '.cache', 'k8s-tools');

/** Raise these together with what the clusters run. The first ones are programs, the others carry the CRDs. */
const GO_MODULES = {
  kubeScore: 'github.com/zegl/kube-score@v1.20.0',
  keda: 'github.com/kedacore/keda/v2@v2.21.0',
  prometheusOperator: 'github.com/prometheus-operator/prometheus-operator@v0.85.0',
  externalSecrets: 'github.com/external-secrets/external-secrets@v1.3.2',
};
const CRD_FILES: [module: keyof typeof GO_MODULES, folder: string, files: RegExp][] = [
  ['keda', 'config/crd/bases', /^keda\.sh_(scaledobjects|triggerauthentications)\.yaml$/],
  ['prometheusOperator', 'example/prometheus-operator-crd', /_(podmonitors|prometheusrules)\.yaml$/],
  ['externalSecrets', 'config/crds/bases', /^external-secrets\.io_(externalsecrets|secretstores)\.yaml$/],
];
const KUBERNETES_VALIDATE = 'kubernetes-validate==1.37.0';

/** Runs a program and answers its output, whatever its exit status is; throws when it is not there. */
async function output(program: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  try {
    const options = { cwd: ROOT, env: { ...process.env, ...env }, maxBuffer: 64 * 1024 * 1024 };
    const { stdout } = await run(program, args, options);
    return stdout;
  } catch (error) {
    const { code, stdout } = error as { code?: unknown; stdout?: string };
    if (typeof code === 'number' && stdout) return stdout;
    throw error;
  }
}

/** A program of the PATH; where it is not, its pinned version, installed once below node_modules. */
async function installed(
  name: string,
  how: string,
  install: (bin: string) => Promise<unknown>,
): Promise<string> {
  const found = await run('sh', ['-c', `command -v ${name}`]).catch(() => undefined);
  if (found) return name;
  const program = path.join(CACHE, 'bin', name);
  if (await run('test', ['-x', program]).catch(() => undefined)) return program;
  try {
    await mkdir(CACHE, { recursive: true });
    await install(path.join(CACHE, 'bin'));
  } catch (cause) {
    throw new Error(`${name} is needed and not on the PATH, and could not be installed: ${how}`, { cause });
  }
  return program;
}

/** @throws with what to do when there is no kubectl */
export async function kustomize(folder: string): Promise<string> {
  try {
    return (await run('kubectl', ['kustomize', folder], { cwd: ROOT })).stdout;
  } catch (cause) {
    if ((cause as { code?: unknown }).code !== 'ENOENT') throw cause;
    throw new Error('kubectl is needed and not on the PATH: https://kubernetes.io/docs/tasks/tools/', {
      cause,
    });
  }
}

/** The lines that say what does not fit this version of Kubernetes; kinds that it does not know are left out. */
export async function invalidFor(version: string, file: string): Promise<string[]> {
  const program = await installed('kubernetes-validate', `pip install ${KUBERNETES_VALIDATE}`, async () => {
    await run('python3', ['-m', 'venv', CACHE]);
    await run(path.join(CACHE, 'bin', 'pip'), ['install', '--quiet', KUBERNETES_VALIDATE]);
  });
  const lines = (await output(program, ['-k', version, '--strict', '--no-warn', file]))
    .split('\n')
    .filter(Boolean);
  if (!lines.some((line) => line.startsWith('INFO')))
    throw new Error(`nothing was checked: ${lines.join('\n')}`);
  return lines.filter((line) => !line.startsWith('INFO'));
}

/** What kube-score finds critical. */
export async function criticals(file: string): Promise<{ check: string; object: string }[]> {
  const [module, version] = GO_MODULES.kubeScore.split('@');
  const target = `${module}/cmd/kube-score@${version}`;
  const program = await installed('kube-score', `go install ${target}`, (bin) =>
    run('go', ['install', target], { env: { ...process.env, GOBIN: bin } }),
  );
  const args = ['score', '--kubernetes-version', 'v1.34', '--output-format', 'json', file];
  const objects = JSON.parse(await output(program, args)) as {
    object_name: string;
    checks: { check: { id: string }; grade: number; skipped: boolean }[];
  }[];
  return objects.flatMap(({ object_name, checks }) =>
    checks
      .filter(({ grade, skipped }) => !skipped && grade === CRITICAL)
      .map(({ check }) => ({ check: check.id, object: object_name })),
  );
}
const CRITICAL = 1;

/** The CRDs of what `k8s/` uses, from the modules of the operators that bring them. Needs Go. */
export async function customResourceDefinitions(): Promise<Resource[]> {
  const definitions: Resource[] = [];
  for (const [module, folder, files] of CRD_FILES) {
    const dir = path.join(await moduleFolder(GO_MODULES[module]), folder);
    for (const name of (await readdir(dir)).filter((name) => files.test(name)))
      definitions.push(parse(await readFile(path.join(dir, name), 'utf8')) as Resource);
  }
  return definitions;
}

async function moduleFolder(module: string): Promise<string> {
  try {
    // In a folder without a go.mod: `path@version` is then looked up as it is.
    const { stdout } = await run('go', ['mod', 'download', '-json', module], { cwd: tmpdir() });
    return (JSON.parse(stdout) as { Dir: string }).Dir;
  } catch (cause) {
    const { code, stderr } = cause as { code?: unknown; stderr?: string };
    const why = code === 'ENOENT' ? 'Go is needed and not on the PATH' : stderr;
    throw new Error(`the CRDs are in the Go module ${module}, which could not be fetched: ${why}`, { cause });
  }
}
