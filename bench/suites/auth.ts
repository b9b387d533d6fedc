import { hash } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { startSink } from '../servers/start.ts';
import type { Suite } from '../suite.ts';
import { startProducer, underPosts, WARM_MS } from './http.ts';

const KEY = 'a key of 256 bits would be as long as this one';
const [ISSUER, AUDIENCE] = ['https://issuer.example', 'orders'];
const ROUNDS = 7;

/** `POST /orders` by who asks: what it costs to tell clients apart, and to limit what each may send. */
export const auth: Suite = {
  run: async ({ compete }) => {
    const folder = await mkdtemp(path.join(tmpdir(), 'bench-auth-'));
    const sink = await startSink();
    try {
      const { privateKey, publicKey } = await generateKeyPair('RS256');
      const [keysFile, jwksFile] = ['keys', 'jwks.json'].map((name) => path.join(folder, name)) as [
        string,
        string,
      ];
      await writeFile(keysFile, `bench orders:write ${hash('sha256', KEY)}\n`);
      await writeFile(
        jwksFile,
        JSON.stringify({ keys: [{ ...(await exportJWK(publicKey)), kid: '1', alg: 'RS256' }] }),
      );
      const token = await new SignJWT({ client_id: 'bench', scope: 'orders:write' })
        .setProtectedHeader({ alg: 'RS256', kid: '1', typ: 'at+jwt' })
        .setIssuer(ISSUER)
        .setAudience(AUDIENCE)
        .setSubject('bench')
        .setIssuedAt()
        .setExpirationTime('1h')
        .sign(privateKey);
      const byKey = { AUTH: 'api-key', API_KEYS_FILE: keysFile };
      const byToken = { AUTH: 'jwt', JWT_ISSUER: ISSUER, JWT_AUDIENCE: AUDIENCE, JWT_JWKS: jwksFile };
      // More than anybody sends, so that nothing is refused.
      const limits = { CLIENT_ORDERS_PER_SECOND: '1000000', CLIENT_BYTES_PER_MINUTE: '1048576000000' };
      const contestant = (name: string, settings: string, env: NodeJS.ProcessEnv, headers = {}) =>
        underPosts({ name, settings }, sink, (endpoint) => startProducer(endpoint, { env }), headers);
      const apiKey = { 'x-api-key': KEY };
      const contest = {
        title: 'HTTP by who asks',
        reference: 'AUTH=none',
        contestants: [
          contestant('AUTH=none', 'asks nobody', { AUTH: 'none' }),
          contestant('AUTH=api-key', 'a key, one client', byKey, apiKey),
          contestant('AUTH=jwt', 'an RS256 token, one client', byToken, { authorization: `Bearer ${token}` }),
          contestant(
            'AUTH=api-key, limits',
            'the same key, with both limits',
            { ...byKey, ...limits },
            apiKey,
          ),
        ],
      };
      return [await compete(contest, { warmMs: WARM_MS, rounds: ROUNDS })];
    } finally {
      await sink.stop();
      await rm(folder, { recursive: true });
    }
  },
};
