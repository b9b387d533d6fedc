import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import tls from 'node:tls';
import type { Availability } from './containers.ts';

/** A private key and its certificate, as PEM. */
export type Certificate = { key: string; cert: string };

const OPENSSL = 'openssl';

/** Keys and certificates are made by the command `openssl`. */
export function opensslAvailable(): Availability {
  const { status, stdout } = spawnSync(OPENSSL, ['version'], { encoding: 'utf8' });
  if (status === 0) return { available: true, reason: stdout.trim() };
  return { available: false, reason: 'skipped: no openssl' };
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

/** An authority of the test's own, in a folder that ends with it. */
export class TestAuthority implements Disposable {
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'authority-'));
  #issued = 0;

  constructor() {
    this.#openssl('req', '-x509', ...NEW_KEY, '-subj', '/CN=test CA', '-keyout', 'ca.key', '-out', 'ca.pem');
  }

  /** The file of its own certificate. */
  get file(): string {
    return path.join(this.#folder, 'ca.pem');
  }

  /** A certificate for this machine's loopback, unless it says otherwise; with fewer than 0 days it has expired. */
  issue({ names = 'DNS:localhost,IP:127.0.0.1', days = 2 } = {}): Certificate {
    const [key, request, cert] = ['key', 'csr', 'pem'].map((end) => `${this.#issued}.${end}`) as [
      string,
      string,
      string,
    ];
    this.#issued++;
    writeFileSync(path.join(this.#folder, 'names'), `subjectAltName=${names}`);
    this.#openssl('req', ...NEW_KEY, '-subj', '/CN=test', '-keyout', key, '-out', request);
    const signed = ['-CA', 'ca.pem', '-CAkey', 'ca.key', '-extfile', 'names', '-days', String(days)];
    this.#openssl('x509', '-req', '-in', request, ...signed, '-out', cert);
    const read = (file: string) => readFileSync(path.join(this.#folder, file), 'utf8');
    return { key: read(key), cert: read(cert) };
  }

  [Symbol.dispose](): void {
    rmSync(this.#folder, { recursive: true });
  }

  #openssl(...args: string[]): void {
    const { status, stderr } = spawnSync(OPENSSL, args, { cwd: this.#folder, encoding: 'utf8' });
    if (status !== 0) throw new Error(`openssl ${args[0]}: ${stderr}`);
  }
}

/** What is known to be broken, and no library offers by default any more. */
export const TLS_1_1 = {
  minVersion: 'TLSv1.1',
  maxVersion: 'TLSv1.1',
  ciphers: 'DEFAULT:@SECLEVEL=0',
} as const;

/** Speaks TLS on a port of the loopback interface, and hands on what it reads to that address in plaintext. */
export async function startTlsProxy(target: string, options: tls.TlsOptions) {
  const { hostname, port } = new URL(target);
  const server = tls.createServer(options, (client) => {
    const upstream = net.connect(Number(port), hostname);
    client.on('error', () => upstream.destroy()).on('close', () => upstream.destroy());
    upstream.on('error', () => client.destroy()).on('close', () => client.destroy());
    client.pipe(upstream).pipe(client);
  });
  const clients = new Set<net.Socket>();
  server.on('connection', (client: net.Socket) => {
    clients.add(client);
    client.once('close', () => clients.delete(client));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    stop: async () => {
      for (const client of clients) client.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}
