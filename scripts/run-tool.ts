import { spawnSync } from 'node:child_process';

const USAGE = `usage: node scripts/run-tool.ts NAME [ARGUMENTS...]

  Runs a tool that npm does not have: the one on the path, else, where it is written in Go, the version that is named
  here through \`go run\`, which builds it once; Go's checksum database vouches for its source. NAME is one of:`;

/**
 * `module` as `go run` takes it. `needs` are other programs, without which the tool would leave out a part in silence.
 * `pinned`: this version and no other, even where one is on the path.
 */
const TOOLS: Partial<Record<string, { module?: string; needs: string[]; pinned?: true }>> = {
  actionlint: { module: 'github.com/rhysd/actionlint/cmd/actionlint@v1.7.12', needs: ['shellcheck'] },
  gitleaks: { module: 'github.com/zricethezav/gitleaks/v8@v8.30.1', needs: ['git'] },
  // A node image belongs to one version of kind: that in package.json is of its release notes.
  kind: { module: 'sigs.k8s.io/kind@v0.33.0', needs: ['docker'], pinned: true },
  shellcheck: { needs: [] },
};

const isThere = (program: string) => spawnSync(program, ['--help'], { stdio: 'ignore' }).error === undefined;

const [name = '', ...args] = process.argv.slice(2);
const tool = TOOLS[name];
if (!tool) {
  const isAsked = name === '--help';
  console[isAsked ? 'log' : 'error'](`${USAGE} ${Object.keys(TOOLS).join(', ')}`);
  process.exit(isAsked ? 0 : 2);
}
const installed = tool.pinned !== true && isThere(name);
const missing = tool.needs.filter((program) => !isThere(program));
if (!installed && !(tool.module && isThere('go'))) missing.unshift(tool.module ? `${name} (or go)` : name);
if (missing.length > 0) {
  console.error(
    `${name} cannot run, missing on the path: ${missing.join(', ')}; docs/pipeline.md tells how to get it`,
  );
  process.exit(1);
}
const [program, ...prefix] = installed || !tool.module ? [name] : ['go', 'run', tool.module];
process.exitCode = spawnSync(program, [...prefix, ...args], { stdio: 'inherit' }).status ?? 1;
