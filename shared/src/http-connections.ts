import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Health } from './health.ts';
import type { HttpServer } from './http-server.ts';

export type ConnectionOptions = {
  health: Pick<Health, 'accepting'>;
  /** After so long a connection is given up with its next answer; 5 s by default. */
  connectionMaxAgeMs?: number;
};

/**
 * Kubernetes chooses a pod when a connection opens, and never again. A client that keeps its connection would stay on
 * the old version after a switch, and would never find the pods that an autoscaler added.
 */
const CONNECTION_MAX_AGE_MS = 5_000;

const CLOSE_SWEEP_MS = 100;
/**
 * How long a stop waits for the rest of a request. Node keeps no limit once it closes, and a client that has died in
 * the middle of its request would cost the whole grace period. What came only in part was not accepted.
 */
const UPLOAD_PATIENCE_MS = 1_000;

/**
 * Ends connections so that no request is lost: by `Connection: close` in an answer once they are old, or once the service
 * no longer wants traffic; and at stop, when nothing whole is under way any more.
 */
export function manageConnections(
  app: HttpServer,
  { health, connectionMaxAgeMs = CONNECTION_MAX_AGE_MS }: ConnectionOptions,
): void {
  let closing = false;
  const openedAt = new WeakMap<Socket, number>();
  app.server.on('connection', (socket) => openedAt.set(socket, performance.now()));
  // At the end of a request, so that those which were under way when the stop began give their connection up too.
  // Told by an answer, a client opens another one; an idle connection that is closed may cross with a request.
  app.addHook('onSend', (request, reply, payload, done) => {
    const ageMs = performance.now() - (openedAt.get(request.raw.socket) ?? Number.POSITIVE_INFINITY);
    if (closing || !health.accepting || ageMs > connectionMaxAgeMs) reply.header('connection', 'close');
    done(null, payload);
  });
  const underWay = new Set<IncomingMessage>();
  // `close` comes at the end of each answer, given or not: a client may have gone before.
  app.server.on('request', (request, response) => {
    underWay.add(request);
    response.once('close', () => underWay.delete(request));
  });
  app.addHook('preClose', async () => {
    closing = true;
    if (!app.server.listening) return;
    const patientUntilMs = performance.now() + UPLOAD_PATIENCE_MS;
    const sweep = setInterval(() => {
      // Node closes what is idle now. A connection that never brought a request is not, and would hold the stop up.
      if (underWay.size === 0) app.server.closeAllConnections();
      if (performance.now() < patientUntilMs) return;
      for (const request of underWay) if (!request.complete) request.destroy();
    }, CLOSE_SWEEP_MS);
    app.server.once('close', () => clearInterval(sweep));
  });
}
