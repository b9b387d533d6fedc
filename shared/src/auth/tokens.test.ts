import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { exportJWK, exportSPKI, generateKeyPair, SignJWT, UnsecuredJWT } from 'jose';
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { captureLog } from '../../testing/log-lines.ts';
import { IssuerUnavailableError, type TokenOptions, TokenVerifier } from './tokens.ts';

const ISSUER = 'https://id.example';
const AUDIENCE = 'orders';
const claims = { iss: ISSUER, aud: AUDIENCE, client_id: 'web-shop', scope: 'orders:write profile' };
const nowSeconds = () => Math.floor(Date.now() / 1_000);

type KeyPair = Awaited<ReturnType<typeof generateKeyPair>>;
let keys: KeyPair;
let strangers: KeyPair;

beforeAll(async () => {
  [keys, strangers] = await Promise.all([
    generateKeyPair('RS256', { extractable: true }),
    generateKeyPair('RS256', { extractable: true }),
  ]);
});

const publicKey = async (pair: KeyPair, kid: string) => ({
  ...(await exportJWK(pair.publicKey)),
  kid,
  alg: 'RS256',
});

const sign = (
  payload: Record<string, unknown> = {},
  { pair = keys, kid = 'k1', typ = undefined as string | undefined } = {},
) =>
  new SignJWT({ ...claims, exp: nowSeconds() + 300, ...payload })
    .setProtectedHeader({ alg: 'RS256', kid, ...(typ === undefined ? {} : { typ }) })
    .sign(pair.privateKey);

/** An issuer that publishes its keys, and can be away. */
async function startIssuer() {
  const issuer = { keys: [await publicKey(keys, 'k1')], away: false, asked: 0, url: '' };
  const server = createServer((_request, response) => {
    issuer.asked++;
    if (issuer.away) response.socket?.destroy();
    else response.end(JSON.stringify({ keys: issuer.keys }));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close().closeAllConnections());
  issuer.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/keys`;
  return issuer;
}

async function verifierOf(jwks: string, options: Partial<TokenOptions> = {}) {
  const { logger, lines } = captureLog();
  const verifier = new TokenVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    algorithms: ['RS256'],
    jwks,
    clockToleranceSeconds: 30,
    logger,
    ...options,
  });
  await verifier.start();
  onTestFinished(() => verifier.stop());
  return { verifier, lines };
}

async function keysInFile(): Promise<string> {
  const folder = mkdtempSync(path.join(tmpdir(), 'jwks-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'jwks.json');
  writeFileSync(file, JSON.stringify({ keys: [await publicKey(keys, 'k1')] }));
  return file;
}

describe('a token', () => {
  it('of the issuer, for us, gives its client with the scopes that we know', async () => {
    const { verifier } = await verifierOf(await keysInFile());
    expect(await verifier.verify(await sign())).toEqual({
      id: 'web-shop',
      scopes: new Set(['orders:write']),
    });
  });

  it.each([
    [{ scope: undefined, scp: ['orders:read', 7] }, ['orders:read']],
    [{ scope: undefined, scp: 'orders:read operations' }, ['orders:read', 'operations']],
    [{ scope: undefined }, []],
  ])('with the claims %j has the scopes %j', async (payload, scopes) => {
    const { verifier } = await verifierOf(await keysInFile());
    const client = await verifier.verify(await sign(payload));
    expect([...(client?.scopes ?? ['none'])]).toEqual(scopes);
  });

  it.each([
    [{ client_id: 'a', azp: 'b', sub: 'c' }, 'a'],
    [{ client_id: undefined, azp: 'b', sub: 'c' }, 'b'],
    [{ client_id: undefined, sub: 'auth0|c' }, 'auth0|c'],
  ])('with the claims %j is of the client %s', async (payload, id) => {
    const { verifier } = await verifierOf(await keysInFile());
    expect((await verifier.verify(await sign(payload)))?.id).toBe(id);
  });

  it.each([
    ['is expired', () => sign({ exp: nowSeconds() - 31 })],
    ['has no end', () => sign({ exp: undefined })],
    ['is not yet good', () => sign({ nbf: nowSeconds() + 60 })],
    ['is of another issuer', () => sign({ iss: 'https://id.example.evil' })],
    ['is for another audience', () => sign({ aud: ['billing'] })],
    ['is signed by a stranger', () => sign({}, { pair: strangers })],
    ['names a key that is unknown', () => sign({}, { kid: 'k9' })],
    ['has no signature', async () => new UnsecuredJWT({ ...claims, exp: nowSeconds() + 60 }).encode()],
    [
      'is signed with the public key as a secret',
      async () =>
        new SignJWT({ ...claims, exp: nowSeconds() + 60 })
          .setProtectedHeader({ alg: 'HS256', kid: 'k1' })
          .sign(new TextEncoder().encode(await exportSPKI(keys.publicKey))),
    ],
    ['names no client', () => sign({ client_id: undefined })],
    ['has a client that would break a log line', () => sign({ client_id: 'a\nb' })],
    ['is of another type', () => sign({}, { typ: 'logout+jwt' })],
    ['is an ID token of Cognito', () => sign({ token_use: 'id' }, { typ: 'JWT' })],
    ['is an ID token of Keycloak', () => sign({ typ: 'ID' }, { typ: 'JWT' })],
    ['is an ID token beside an access token', () => sign({ at_hash: 'x' })],
    ['is an ID token beside a code', () => sign({ c_hash: 'x' })],
    [
      'is altered',
      async () => (await sign()).replace(/\.[^.]+\./, `.${btoa('{"iss":"https://id.example"}')}.`),
    ],
    ['is rubbish', async () => 'a.b.c'],
    ['is too long', () => sign({ filler: 'x'.repeat(8_192) })],
  ])('that %s is nobody', async (_what, token) => {
    const { verifier } = await verifierOf(await keysInFile());
    expect(await verifier.verify(await token())).toBeUndefined();
  });

  it.each(['at+jwt', 'application/at+jwt', 'AT+JWT', 'JWT', undefined])(
    'of type %s is taken',
    async (typ) => {
      const { verifier } = await verifierOf(await keysInFile());
      expect((await verifier.verify(await sign({}, { typ })))?.id).toBe('web-shop');
    },
  );

  it.each([
    ['at+jwt', 'web-shop'],
    ['application/at+jwt', 'web-shop'],
    ['JWT', undefined],
    [undefined, undefined],
  ])('of type %s, where at+jwt is required, is of %s', async (typ, id) => {
    const { verifier } = await verifierOf(await keysInFile(), { type: 'at+jwt' });
    expect((await verifier.verify(await sign({}, { typ })))?.id).toBe(id);
  });

  it.each([-25, 25])('from a clock that is %i s off is taken', async (offSeconds) => {
    const { verifier } = await verifierOf(await keysInFile());
    const now = nowSeconds() + offSeconds;
    const token = await sign({ iat: now, nbf: now, exp: now + 60 });
    expect((await verifier.verify(token))?.id).toBe('web-shop');
  });

  it('is remembered until it expires', async () => {
    const { verifier } = await verifierOf(await keysInFile(), { clockToleranceSeconds: 0 });
    const token = await sign({ exp: nowSeconds() + 60 });
    expect(verifier.remembered(token)).toBeUndefined();
    await verifier.verify(token);
    expect(verifier.remembered(token)?.id).toBe('web-shop');
    vi.useFakeTimers({ now: Date.now() + 61_000, toFake: ['Date'] });
    expect(verifier.remembered(token)).toBeUndefined();
    vi.useRealTimers();
  });
});

describe('the keys of an issuer', () => {
  beforeEach(() => {
    vi.useFakeTimers({ toFake: ['Date', 'performance', 'setInterval', 'clearInterval'] });
  });
  afterEach(() => {
    vi.useRealTimers();
  });
  const MINUTE = 60_000;

  it('are good for an hour while it is away, and then nothing is known', async () => {
    const issuer = await startIssuer();
    const { verifier, lines } = await verifierOf(issuer.url);
    issuer.away = true;
    await vi.advanceTimersByTimeAsync(60 * MINUTE);
    expect((await verifier.verify(await sign()))?.id).toBe('web-shop');
    expect(lines.some(({ message }) => message === "issuer's keys not refreshed")).toBe(true);
    await vi.advanceTimersByTimeAsync(10 * MINUTE);
    await expect(verifier.verify(await sign({ jti: 'another' }))).rejects.toThrow(IssuerUnavailableError);
    issuer.away = false;
    await vi.advanceTimersByTimeAsync(MINUTE);
    expect((await verifier.verify(await sign({ jti: 'a third' })))?.id).toBe('web-shop');
  });

  it('that it has withdrawn are not good for long', async () => {
    const issuer = await startIssuer();
    const { verifier } = await verifierOf(issuer.url);
    expect(await verifier.verify(await sign())).toBeDefined();
    issuer.keys = [await publicKey(strangers, 'k2')];
    await vi.advanceTimersByTimeAsync(6 * MINUTE);
    // Real time, for the answer that is under way.
    await vi.waitFor(async () => expect(await verifier.verify(await sign({ jti: 'new' }))).toBeUndefined(), {
      timeout: 30_000,
    });
  });

  it('are asked for again for a key that is new, and not for each token of a flood', async () => {
    const issuer = await startIssuer();
    const { verifier } = await verifierOf(issuer.url);
    issuer.keys.push(await publicKey(strangers, 'k2'));
    const flood = async () => {
      for (let index = 0; index < 50; index++)
        await verifier
          .verify(await sign({ jti: String(index) }, { pair: strangers, kid: `unknown-${index}` }))
          .catch(() => {});
    };
    await flood();
    expect(issuer.asked).toBe(1);
    await vi.advanceTimersByTimeAsync(31_000);
    expect((await verifier.verify(await sign({}, { pair: strangers, kid: 'k2' })))?.id).toBe('web-shop');
    await flood();
    expect(issuer.asked).toBe(2);
    // Also while the issuer is away.
    await vi.advanceTimersByTimeAsync(31_000);
    issuer.away = true;
    await flood();
    expect(issuer.asked).toBe(3);
  });

  it('are not read without end', async () => {
    const server = createServer((_request, response) => {
      const more = () => response.write('x'.repeat(65_536), more);
      more();
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close().closeAllConnections());
    const { lines } = await verifierOf(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
    expect(lines).toHaveLength(1);
  });

  it('that are not there at the start are a warning, and no start is refused', async () => {
    const issuer = await startIssuer();
    issuer.away = true;
    const { verifier, lines } = await verifierOf(issuer.url);
    expect(lines).toMatchObject([{ level: 'WARN', message: "issuer's keys not refreshed" }]);
    await expect(verifier.verify(await sign())).rejects.toThrow(IssuerUnavailableError);
  });
});
