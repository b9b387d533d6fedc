import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

/**
 * Gives out credentials as a container's agent does: they expire so soon that whoever signs soon has none.
 * https://docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html
 */
export type CredentialServer = {
  url: string;
  /** Answers nobody until the answer of this is ended; then it cuts those that wait, as an agent that is started again. */
  hang: () => { readonly hits: number; end: () => void };
  stop: () => Promise<void>;
};

/** The SDK asks again for what expires within five minutes, and uses what it has until then. */
const LIFE_MS = 2_000;

/** Listens on the loopback interface only. */
export async function startCredentialServer(): Promise<CredentialServer> {
  let waiting: http.ServerResponse[] | undefined;
  let hits = 0;
  const server = http.createServer((_request, response) => {
    if (waiting) {
      hits++;
      waiting.push(response);
      return;
    }
    const Expiration = new Date(Date.now() + LIFE_MS).toISOString();
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({ AccessKeyId: 'AKID', SecretAccessKey: 'secret', Token: 'token', Expiration }),
    );
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    hang: () => {
      waiting = [];
      hits = 0;
      return {
        get hits() {
          return hits;
        },
        end: () => {
          for (const response of waiting ?? []) response.destroy();
          waiting = undefined;
        },
      };
    },
    stop: async () => {
      server.close();
      server.closeAllConnections();
      await once(server, 'close');
    },
  };
}
