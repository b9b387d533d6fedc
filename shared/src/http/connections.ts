import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Health } from './health.ts';
import { PROBLEM_CONTENT_TYPE, ProblemError, refusedRequest } from './problem.ts';

/** Requests whose answers are not given yet, in the order in which they came. */
export type RequestsUnderWay = Map<IncomingMessage, ServerResponse>;

export type ConnectionOptions = {
  health: Pick<Health, 'accepting'>;
  /** Beyond it a connection is answered 503, and a tenth more are not even taken. */
  maxConnections: number;
  /** After so long a connection is given up with its next answer; 5 s by default. */
  connectionMaxAgeMs?: number;
};

/**
 * Kubernetes chooses a pod when a connection opens, and never again. A client that keeps its connection would stay on
 * the old version after a switch, and would never find the pods that an autoscaler added.
 */
const CONNECTION_MAX_AGE_MS = 5_000;

/** The part of the limit by which more connections are taken, to be answered. */
const SURPLUS = 0.1;

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
  app: FastifyInstance,
  {
    health,
    maxConnections,
    connectionMaxAgeMs = CONNECTION_MAX_AGE_MS,
    underWay,
  }: ConnectionOptions & { underWay: RequestsUnderWay },
): void {
  let closing = false;
  let open = 0;
  const openedAt = new WeakMap<Socket, number>();
  /** What came when as many were open as may be: answered to say so, and given up. */
  const surplus = new WeakSet<Socket>();
  app.server.maxConnections = Math.ceil(maxConnections * (1 + SURPLUS));
  app.server.on('connection', (socket) => {
    openedAt.set(socket, performance.now());
    if (++open > maxConnections) surplus.add(socket);
    socket.once('close', () => open--);
  });
  app.addHook('onRequest', (request, reply, done) => {
    // Liveness is told to whoever asks: to be restarted helps nobody here.
    if (open <= maxConnections || !surplus.has(request.raw.socket) || request.url === '/livez') return done();
    reply.header('connection', 'close');
    done(new ProblemError('too-many-connections', `${maxConnections} are open already`));
  });
  // At the end of a request, so that those which were under way when the stop began give their connection up too.
  // Told by an answer, a client opens another one; an idle connection that is closed may cross with a request.
  app.addHook('onSend', (request, reply, payload, done) => {
    const ageMs = performance.now() - (openedAt.get(request.raw.socket) ?? Number.POSITIVE_INFINITY);
    if (closing || !health.accepting || ageMs > connectionMaxAgeMs) reply.header('connection', 'close');
    done(null, payload);
  });
  // `close` comes at the end of each answer, given or not: a client may have gone before.
  app.server.on('request', (request, response) => {
    underWay.set(request, response);
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
      for (const request of underWay.keys()) if (!request.complete) request.destroy();
    }, CLOSE_SWEEP_MS);
    app.server.once('close', () => clearInterval(sweep));
  });
}

/**
 * Answers what never became a request: a header too large or too slow, or no HTTP at all. Where such bytes follow a
 * whole request, that one gets its own answer and no other: it may be an order that is accepted.
 */
export function answerClientError(
  { code }: { code: string },
  socket: Socket,
  underWay: RequestsUnderWay,
): void {
  const [request, response] = [...underWay].findLast(([{ socket: other }]) => other === socket) ?? [];
  if (code !== 'ECONNRESET' && response && (request?.complete || response.headersSent)) {
    response.shouldKeepAlive = false;
    response.once('close', () => socket.destroySoon());
    return;
  }
  if (socket.writable && code !== 'ECONNRESET') {
    const status = { HPE_HEADER_OVERFLOW: 431, ERR_HTTP_REQUEST_TIMEOUT: 408 }[code] ?? 400;
    const body = JSON.stringify(refusedRequest(status));
    const head = [
      `HTTP/1.1 ${status} ${STATUS_CODES[status]}`,
      `content-type: ${PROBLEM_CONTENT_TYPE}`,
      `content-length: ${Buffer.byteLength(body)}`,
      'connection: close',
    ];
    socket.write(`${head.join('\r\n')}\r\n\r\n${body}`);
  }
  socket.destroy();
}
