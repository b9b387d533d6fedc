import { renameSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { createApiKey } from '@orders/shared/auth/api-keys.ts';
import type { Random } from './random.ts';
import type { ServiceProcess } from './service-process.ts';

/** Those that order. Each sees its own orders only. */
export const CLIENTS = ['shop-a', 'shop-b'] as const;
/** Sees everybody's, and orders nothing. */
const READER = 'back-office';
const SCOPES = { 'shop-a': 'orders:write,orders:read', 'shop-b': 'orders:write,orders:read' };

const PROBE_MS = 250;
const PROBE_TIMEOUT_MS = 2_000;
/** What is read of a request only after its sender was found to be known. */
const KNOWN = [400, 404, 422];
const UNKNOWN = 401;

type Key = ReturnType<typeof createApiKey>;

/** The keys of a trial with `AUTH=api-key`: a file that the services read, and who sends which. */
export class ClientKeys {
  readonly file: string;
  readonly #random: Random;
  readonly #current = new Map<string, Key>([...CLIENTS, READER].map((id) => [id, createApiKey()]));
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(file: string, random: Random) {
    this.file = file;
    this.#random = random;
    this.#write(new Map());
  }

  pick(): string {
    return this.#random.pick(CLIENTS);
  }

  headersOf(clientId = READER): Record<string, string> {
    return { 'x-api-key': this.#keyOf(clientId).key };
  }

  /** Sends with the client's key of now; no key goes while a request with it is under way. */
  async send<T>(clientId: string | undefined, request: (headers: Record<string, string>) => Promise<T>) {
    const sent = request(this.headersOf(clientId));
    this.#underWay.add(sent);
    try {
      return await sent;
    } finally {
      this.#underWay.delete(sent);
    }
  }

  /**
   * Gives a client its next key as docs/security.md says: both are valid, the client takes the new one, the old one goes.
   * Resolves when every service refuses the old one.
   * @throws when a service does not follow before `stop`
   */
  async rotate(services: readonly ServiceProcess[], stop: AbortSignal): Promise<void> {
    const clientId = this.pick();
    const [old, next] = [this.#keyOf(clientId), createApiKey()];
    this.#write(new Map([[clientId, next]]));
    await Promise.all(services.map((service) => until(service, next, KNOWN, stop)));
    this.#current.set(clientId, next);
    await Promise.allSettled(this.#underWay);
    this.#write(new Map());
    await Promise.all(services.map((service) => until(service, old, [UNKNOWN], stop)));
  }

  #keyOf(clientId: string): Key {
    return this.#current.get(clientId) as Key;
  }

  #write(second: ReadonlyMap<string, Key>): void {
    const lines = [...this.#current].map(([id, { digest }]) => {
      const scopes = SCOPES[id as keyof typeof SCOPES] ?? 'orders:read:all';
      return [id, scopes, digest, second.get(id)?.digest].filter(Boolean).join(' ');
    });
    // Never half a file: a service that starts just then would not start.
    writeFileSync(`${this.file}.new`, `${lines.join('\n')}\n`);
    renameSync(`${this.file}.new`, this.file);
  }
}

/** Until a service answers so to a request that changes nothing. */
async function until(
  service: ServiceProcess,
  { key }: Key,
  statuses: readonly number[],
  stop: AbortSignal,
): Promise<void> {
  for (; ; await sleep(PROBE_MS)) {
    const response = await fetch(`${service.url}/orders${service.name === 'producer' ? '' : '/none'}`, {
      ...(service.name === 'producer' ? { method: 'POST', body: '{}' } : {}),
      headers: { 'content-type': 'application/json', connection: 'close', 'x-api-key': key },
      signal: AbortSignal.timeout(PROBE_TIMEOUT_MS),
    }).catch(() => undefined);
    await response?.body?.cancel();
    if (response && statuses.includes(response.status)) return;
    if (stop.aborted)
      throw new Error(`${service.name} does not follow the file of keys: ${response?.status}`);
  }
}
