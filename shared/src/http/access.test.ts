import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createTestHttpApp } from '../../testing/http-app.ts';
import { createApiKey } from '../auth/api-keys.ts';

const ISSUER = 'https://id.example';
const [writer, reader, operator] = [createApiKey(), createApiKey(), createApiKey()];

function inFile(text: string): string {
  const folder = mkdtempSync(path.join(tmpdir(), 'access-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'file');
  writeFileSync(file, text);
  return file;
}

const keysFile = () =>
  inFile(
    [
      `shop orders:write ${writer.digest}`,
      `audit orders:read:all ${reader.digest}`,
      `oncall operations ${operator.digest}`,
    ].join('\n'),
  );

/** A server with a route for those who may order, and one for everybody. */
async function serverWith(options: Parameters<typeof createTestHttpApp>[0]) {
  const { app, lines, metrics } = await createTestHttpApp(options);
  onTestFinished(() => app.close());
  const seen: unknown[] = [];
  app.post('/orders', { config: { access: 'orders:write' } }, async ({ client }) => {
    seen.push(client.id);
    return {};
  });
  app.get('/open', { config: { access: 'public' } }, async () => ({}));
  const order = (headers: Record<string, string> = {}) =>
    app.inject({ method: 'POST', url: '/orders', headers, payload: {} });
  const get = (url: string, headers: Record<string, string> = {}) => app.inject({ url, headers });
  return { app, order, get, seen, lines, metrics };
}

const withKeys = (more: Parameters<typeof createTestHttpApp>[0] = {}) =>
  serverWith({ ...more, auth: { AUTH: ['api-key'], API_KEYS_FILE: keysFile() } });

describe('AUTH=api-key', () => {
  it('lets a client with the scope through, and the route knows who that is', async () => {
    const { order, seen } = await withKeys();
    expect((await order({ 'x-api-key': writer.key })).statusCode).toBe(200);
    expect(seen).toEqual(['shop']);
  });

  it.each([
    {},
    { 'x-api-key': '' },
    { 'x-api-key': 'order_wrong' },
    { authorization: `Bearer ${writer.key}` },
  ])('answers %j 401 with the way to do better, and no word about what was wrong', async (headers) => {
    const { order, seen } = await withKeys();
    const response = await order(headers as Record<string, string>);
    expect(response.statusCode).toBe(401);
    expect(response.headers['www-authenticate']).toBe('ApiKey realm="orders"');
    const { traceId, ...problem } = response.json();
    expect(problem).toEqual({ type: '/problems/unauthorized', title: 'The sender is unknown', status: 401 });
    expect(seen).toEqual([]);
  });

  it('answers a client without the scope 403 and names the scope', async () => {
    const { order } = await withKeys();
    const response = await order({ 'x-api-key': reader.key });
    expect(response.statusCode).toBe(403);
    expect(response.json()).toMatchObject({
      type: '/problems/forbidden',
      detail: 'this needs the scope orders:write',
    });
  });

  it('leaves what is public to everybody', async () => {
    const { get } = await withKeys();
    for (const url of ['/open', '/livez', '/actuator/health', '/actuator/info', '/openapi.json', '/docs'])
      expect([url, (await get(url)).statusCode]).not.toEqual([url, 401]);
  });

  it('lets no cache keep what only some may see, nor its refusal', async () => {
    const { order, get } = await withKeys();
    const refused = await order({ 'x-api-key': reader.key });
    const placed = await order({ 'x-api-key': writer.key });
    for (const answer of [refused, placed]) expect(answer.headers['cache-control']).toBe('no-store');
    expect((await get('/open')).headers['cache-control']).toBeUndefined();
  });

  it('writes a line for each refusal, with who and what for, and without the key', async () => {
    const { order, lines } = await withKeys();
    await order({ 'x-api-key': reader.key });
    await order({ 'x-api-key': 'order_wrong' });
    const audit = lines.filter(({ message }) => message === 'access refused');
    expect(audit).toMatchObject([
      { audit: 'refused', client: 'audit', scope: 'orders:write', method: 'POST', route: '/orders' },
      { audit: 'refused', scope: 'orders:write' },
    ]);
    expect(JSON.stringify(lines)).not.toMatch(/order_/);
  });

  it('counts who is let in and who is not', async () => {
    const { order, metrics } = await withKeys();
    await order({ 'x-api-key': writer.key });
    await order({ 'x-api-key': 'order_wrong' });
    await order();
    const { values } = await metrics.authentications.get();
    expect(values.map(({ labels, value }) => ({ ...labels, value }))).toEqual([
      { method: 'api-key', result: 'accepted', value: 1 },
      { method: 'api-key', result: 'refused', value: 1 },
      { method: 'none', result: 'refused', value: 1 },
    ]);
  });

  it('refuses before a body is read', async () => {
    const { app } = await withKeys();
    const response = await app.inject({ method: 'POST', url: '/orders', payload: 'x'.repeat(100_000) });
    expect(response.statusCode).toBe(401);
  });
});

describe('AUTH=none,api-key', () => {
  const both = () => serverWith({ auth: { AUTH: ['none', 'api-key'], API_KEYS_FILE: keysFile() } });

  it('lets through who sends no key, knows who sends one, and refuses a wrong one', async () => {
    const { order, seen, metrics } = await both();
    const codes = [];
    for (const headers of [{}, { 'x-api-key': writer.key }, { 'x-api-key': 'order_wrong' }])
      codes.push((await order(headers as Record<string, string>)).statusCode);
    expect(codes).toEqual([200, 200, 401]);
    expect(seen).toEqual([undefined, 'shop']);
    const { values } = await metrics.authentications.get();
    expect(values.find(({ labels }) => labels.method === 'none')?.value).toBe(1);
  });
});

describe('AUTH=jwt', () => {
  async function issuer() {
    const { publicKey, privateKey } = await generateKeyPair('ES256');
    const jwks = inFile(
      JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: '1', alg: 'ES256' }] }),
    );
    const token = (scope: string) =>
      new SignJWT({ client_id: 'shop', scope })
        .setProtectedHeader({ alg: 'ES256', kid: '1' })
        .setIssuer(ISSUER)
        .setAudience('orders')
        .setExpirationTime('5m')
        .sign(privateKey);
    return {
      token,
      auth: { JWT_ISSUER: ISSUER, JWT_AUDIENCE: 'orders', JWT_JWKS: jwks, JWT_ALGORITHMS: ['ES256'] },
    } as const;
  }

  it('lets through who has a token with the scope, also the second time, and nobody else', async () => {
    const { token, auth } = await issuer();
    const { order, seen } = await serverWith({ auth: { AUTH: ['jwt'], ...auth, JWT_ALGORITHMS: ['ES256'] } });
    const [good, weak] = [await token('orders:write'), await token('orders:read')];
    const codeOf = async (authorization: string) => (await order({ authorization })).statusCode;
    expect(await codeOf(`Bearer ${good}`)).toBe(200);
    expect(await codeOf(`bearer ${good}`)).toBe(200);
    expect(await codeOf(`Bearer ${weak}`)).toBe(403);
    for (const wrong of [
      `Basic ${good}`,
      good,
      'Bearer',
      `Bearer ${good.slice(0, -4)}AAAA`,
      `Bearer ${good} x`,
    ])
      expect(await codeOf(wrong)).toBe(401);
    expect(seen).toEqual(['shop', 'shop']);
  });

  it('beside api-key, takes either, and its 401 names both', async () => {
    const { token, auth } = await issuer();
    const { order } = await serverWith({
      auth: { AUTH: ['api-key', 'jwt'], API_KEYS_FILE: keysFile(), ...auth, JWT_ALGORITHMS: ['ES256'] },
    });
    expect((await order({ authorization: `Bearer ${await token('orders:write')}` })).statusCode).toBe(200);
    expect((await order({ 'x-api-key': writer.key })).statusCode).toBe(200);
    expect((await order()).headers['www-authenticate']).toBe('ApiKey realm="orders", Bearer realm="orders"');
  });

  it('answers 503 with a time to come back while the keys of the issuer cannot be had', async () => {
    const { auth, token } = await issuer();
    const { order } = await serverWith({
      auth: { AUTH: ['jwt'], ...auth, JWT_ALGORITHMS: ['ES256'], JWT_JWKS: 'http://127.0.0.1:1/keys' },
    });
    const response = await order({ authorization: `Bearer ${await token('orders:write')}` });
    expect(response.statusCode).toBe(503);
    expect(response.headers['retry-after']).toBe('5');
    expect(response.json().type).toBe('/problems/issuer-unavailable');
  });
});

describe('in production', () => {
  it('shows what runs to operators only, and nothing but health to everybody', async () => {
    const { get } = await withKeys({ appEnv: 'production', docs: false, managementPort: 8082 });
    const codes = async (headers: Record<string, string>) =>
      Promise.all(
        [
          '/livez',
          '/actuator',
          '/actuator/info',
          '/actuator/metrics',
          '/actuator/metrics/process.cpu.time',
          '/docs',
          '/openapi.json',
          '/metrics',
        ].map(async (url) => (await get(url, headers)).statusCode),
      );
    expect(await codes({})).toEqual([200, 401, 401, 401, 401, 404, 404, 404]);
    expect(await codes({ 'x-api-key': reader.key })).toEqual([200, 403, 403, 403, 403, 404, 404, 404]);
    expect(await codes({ 'x-api-key': operator.key })).toEqual([200, 200, 200, 200, 200, 404, 404, 404]);
  });

  it('shows the parts of health to operators, and to everybody else the status alone', async () => {
    const { get } = await withKeys({ appEnv: 'production' });
    const health = async (headers: Record<string, string>) => (await get('/actuator/health', headers)).json();
    const status = { status: 'UP' };
    expect(await health({})).toEqual(status);
    expect(await health({ 'x-api-key': 'order_wrong' })).toEqual(status);
    expect(await health({ 'x-api-key': reader.key })).toEqual(status);
    expect(await health({ 'x-api-key': operator.key })).toMatchObject({
      ...status,
      components: { sqs: status },
    });
  });

  it('shows health while the keys of an issuer cannot be had', async () => {
    const jwt = { JWT_ISSUER: ISSUER, JWT_AUDIENCE: 'orders', JWT_JWKS: 'http://127.0.0.1:1/keys' };
    const { get } = await serverWith({ appEnv: 'production', auth: { AUTH: ['jwt'], ...jwt } });
    const token = await new SignJWT({ client_id: 'shop', scope: 'operations' })
      .setProtectedHeader({ alg: 'RS256', kid: '1' })
      .setIssuer(ISSUER)
      .setAudience('orders')
      .setExpirationTime('5m')
      .sign((await generateKeyPair('RS256')).privateKey);
    const response = await get('/actuator/health', { authorization: `Bearer ${token}` });
    expect([response.statusCode, response.json()]).toEqual([200, { status: 'UP' }]);
  });
});

describe('the description of the API', () => {
  it('shows how senders say who they are, where they must', async () => {
    const { get, app } = await withKeys();
    await app.ready();
    const { paths, components } = (await get('/openapi.json')).json();
    expect(components.securitySchemes).toEqual({
      apiKey: { type: 'apiKey', in: 'header', name: 'x-api-key' },
    });
    expect(paths['/orders'].post.security).toEqual([{ apiKey: [] }]);
    expect(Object.keys(paths['/orders'].post.responses)).toEqual(expect.arrayContaining(['401', '403']));
    expect(paths['/livez'].get.security).toBeUndefined();
  });
});

it('a route that does not say who may use it keeps the server from starting', async () => {
  const { app } = await createTestHttpApp();
  onTestFinished(() => app.close());
  app.get('/forgotten', async () => ({}));
  await expect(app.ready()).rejects.toThrow('GET /forgotten does not say who may use it');
});
