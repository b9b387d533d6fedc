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
  it('names Services and pods of the namespace by URLs of its own port, and ends', async () => {
    kubectl(`case "$*" in
      proxy*accept-paths=^/api/v1/namespaces/staging/*) echo 'Starting to serve on 127.0.0.1:4711'; exec sleep 60 ;;
      *'get pods'*selector=app=order-producer*) echo pod/order-producer-a; echo pod/order-producer-b ;;
      *) exit 1 ;;
    esac`);
    const base = 'http://127.0.0.1:4711/api/v1/namespaces/staging';
    await using proxy = await openKubectlProxy('staging');
    expect(proxy.service('order-consumer')).toBe(`${base}/services/order-consumer:8081/proxy`);
    expect(Object.fromEntries(await proxy.pods('order-producer'))).toEqual({
      'pod/order-producer-a': `${base}/pods/order-producer-a:8080/proxy`,
      'pod/order-producer-b': `${base}/pods/order-producer-b:8080/proxy`,
    });
  });

  it('when the proxy ends at once, as without kubectl, says so', async () => {
    kubectl('exit 127');
    await expect(openKubectlProxy('staging')).rejects.toThrow('kubectl proxy does not start');
  });
});
