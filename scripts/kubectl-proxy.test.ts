import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { openKubectlProxy } from './kubectl-proxy.ts';

let folder: string;
const kubectl = (script: string) => {
  writeFileSync(path.join(folder, 'kubectl'), `#!/bin/sh\n${script}\n`);
  chmodSync(path.join(folder, 'kubectl'), 0o755);
};

beforeEach(() => {
  folder = mkdtempSync(path.join(tmpdir(), 'kubectl-proxy-'));
  vi.stubEnv('PATH', `${folder}:/usr/bin:/bin`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

describe('openKubectlProxy', () => {
  const port = (name: string, containerPort: number) => ({ name, containerPort });

  it('names Services of the namespace and the metrics of pods by URLs of its own port, and ends', async () => {
    const pods = [
      { metadata: { name: 'order-producer-a' }, spec: { containers: [{ ports: [port('http', 8080)] }] } },
      {
        metadata: { name: 'order-producer-b' },
        spec: { containers: [{ ports: [port('http', 8080), port('management', 8082)] }] },
      },
    ];
    kubectl(`case "$*" in
      proxy*accept-paths=^/api/v1/namespaces/staging/*) echo 'Starting to serve on 127.0.0.1:4711'; exec sleep 60 ;;
      *'get pods'*selector=app=order-producer*) echo '${JSON.stringify({ items: pods })}' ;;
      *) exit 1 ;;
    esac`);
    const base = 'http://127.0.0.1:4711/api/v1/namespaces/staging';
    await using proxy = await openKubectlProxy('staging');
    expect(proxy.service('order-consumer')).toBe(`${base}/services/order-consumer:8081/proxy`);
    expect(Object.fromEntries(await proxy.metrics('order-producer'))).toEqual({
      'order-producer-a': `${base}/pods/order-producer-a:8080/proxy`,
      'order-producer-b': `${base}/pods/order-producer-b:8082/proxy`,
    });
  });

  it('when the proxy ends at once, as without kubectl, says so', async () => {
    kubectl('exit 127');
    await expect(openKubectlProxy('staging')).rejects.toThrow('kubectl proxy does not start');
  });
});
