import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import tls from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import { z } from 'zod';
import { type Emulator, startEmulator } from '../../../dev/emulator.ts';
import {
  opensslAvailable,
  startTlsProxy,
  TestAuthority,
  TLS_1_1,
} from '../../../test/support/certificates.ts';
import { captureLog } from '../../testing/log-lines.ts';
import { commonFields, loadConfig, withRules } from '../runtime/config.ts';
import { createSqsClient } from './client.ts';
import { ensureQueues, resolveQueues } from './queue-admin.ts';

const openssl = opensslAvailable();

describe.skipIf(!openssl.available).each(['tuned', 'plain'])(
  `SQS over TLS, with the %s client (${openssl.reason})`,
  (SQS_CLIENT) => {
    const before = { ...tls, trusted: tls.getCACertificates('default') };
    let authority: TestAuthority;
    let emulator: Emulator;
    beforeAll(async () => {
      authority = new TestAuthority();
      emulator = await startEmulator({ port: 0 });
      const names = { queue: 'order-queue', deadLetterQueue: 'order-dlq' };
      const { client } = open(emulator.endpoint, { ALLOW_PLAINTEXT: 'sqs' });
      await ensureQueues(client, 'staging', names);
      client.destroy();
    });
    afterAll(async () => {
      await emulator.stop();
      authority[Symbol.dispose]();
    });
    afterEach(() => {
      tls.setDefaultCACertificates(before.trusted);
      tls.DEFAULT_MIN_VERSION = before.DEFAULT_MIN_VERSION;
      tls.DEFAULT_CIPHERS = before.DEFAULT_CIPHERS;
    });

    function open(endpoint: string, env = {}) {
      const config = loadConfig(withRules(z.object(commonFields), []), {
        APP_ENV: 'staging',
        AWS_ENDPOINT_URL: endpoint,
        SQS_CLIENT,
        ...env,
      });
      const client = createSqsClient({ config, logger: captureLog().logger });
      client.config.credentials = async () => ({ accessKeyId: 'test', secretAccessKey: 'hunter2' });
      return { client, config };
    }

    /** As NODE_EXTRA_CA_CERTS does when the process starts. */
    const trustAuthority = () =>
      tls.setDefaultCACertificates([...before.trusted, readFileSync(authority.file, 'utf8')]);

    async function startBehind(options: tls.TlsOptions) {
      const proxy = await startTlsProxy(emulator.endpoint, options);
      onTestFinished(() => proxy.stop());
      const { client, config } = open(`https://localhost:${proxy.port}`);
      onTestFinished(() => client.destroy());
      return { port: proxy.port, resolve: () => resolveQueues(client, config) };
    }

    it('whose certificate a trusted CA signed, is found', async () => {
      trustAuthority();
      const { resolve } = await startBehind(authority.issue());
      expect((await resolve()).queueUrl).toMatch(/order-queue$/);
    });

    it.each([
      ['has expired', { days: -1 }, /CERT_HAS_EXPIRED.*AWS_ENDPOINT_URL_SQS, AWS_ENDPOINT_URL/],
      ['is for another name', { names: 'DNS:elsewhere' }, /ALTNAME_INVALID.*AWS_ENDPOINT_URL_SQS/],
    ])('whose certificate %s, is refused', async (_what, flaw, message) => {
      trustAuthority();
      const { resolve } = await startBehind(authority.issue(flaw));
      const refused = resolve();
      await expect(refused).rejects.toThrow(message);
      await expect(refused).rejects.not.toThrow(/hunter2/);
    });

    it('whose CA is unknown, is refused, and NODE_EXTRA_CA_CERTS is named', async () => {
      const { resolve } = await startBehind(authority.issue());
      await expect(resolve()).rejects.toThrow(/no CA that is trusted signed .*: NODE_EXTRA_CA_CERTS/);
    });

    it('that speaks TLS 1.1, is refused, even where Node is told to take that', async () => {
      trustAuthority();
      tls.DEFAULT_MIN_VERSION = 'TLSv1';
      tls.DEFAULT_CIPHERS = TLS_1_1.ciphers;
      const { resolve, port } = await startBehind({ ...authority.issue(), ...TLS_1_1 });
      const lax = tls.connect({ port, host: 'localhost' });
      await once(lax, 'secureConnect');
      expect(lax.getProtocol()).toBe('TLSv1.1');
      lax.destroy();
      await expect(resolve()).rejects.toThrow(/must speak TLS 1.2 or newer: AWS_ENDPOINT_URL_SQS/);
    });
  },
);
