import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance } from 'fastify';
import type { Health } from './health.ts';
import { PROBLEM_CONTENT_TYPE, ProblemError, refusedRequest } from './problem.ts';

/** Requests not answered yet, in the order of their arrival. */
export type RequestsUnderWay = Map<IncomingMessage, ServerResponse>;

export type ConnectionOptions = {
  health: Pick<Health, 'accepting'>;
  /** Requests on connections beyond it are answered 503; beyond a tenth more, connections are not accepted. */
  maxConnections: number;
  /** A connection of this age is closed with its next answer; 5 s by default. */
  connectionMaxAgeMs?: number;
};

/**
 * Kubernetes chooses a pod only when a connection opens. A client that keeps its connection would stay on the old
 * version after a switch, and would never reach the pods that an autoscaler added.
 */
const CONNECTION_MAX_AGE_MS = 5_000;

/** Share of the limit that is accepted on top of it, only to be answered 503. */
const SURPLUS = 0.1;

const CLOSE_SWEEP_MS = 100;
/**
 * How long a stop waits for the rest of a request. Node applies no limit once it closes, and a client that died in the
 * middle of its request would cost the whole grace period. A partial request was never accepted.
 */
const UPLOAD_PATIENCE_MS = 1_000;

/**
 * Ends connections without losing a request: with `Connection: close` in an answer once the connection is old or the
 * service wants no more traffic; and at stop, once no complete request is under way.
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
  /** Connections beyond the limit: answered 503 and closed. */
  const surplus = new WeakSet<Socket>();
  app.server.maxConnections = Math.ceil(maxConnections * (1 + SURPLUS));
  app.server.on('connection', (socket) => {
    openedAt.set(socket, performance.now());
    if (++open > maxConnections) surplus.add(socket);
    socket.once('close', () => open--);
  });
  app.addHook('onRequest', (request, reply, done) => {
    // Liveness is always answered: a restart would not help here.
    if (open <= maxConnections || !surplus.has(request.raw.socket) || request.url === '/livez') return done();
    reply.header('connection', 'close');
    done(new ProblemError('too-many-connections', `${maxConnections} are open already`));
  });
  // Decided at the end of a request, so that requests under way when the stop begins also end their connection. A client
  // told by an answer opens another one; closing an idle connection may cross with its next request.
  app.addHook('onSend', (request, reply, payload, done) => {
    const ageMs = performance.now() - (openedAt.get(request.raw.socket) ?? Number.POSITIVE_INFINITY);
    if (closing || !health.accepting || ageMs > connectionMaxAgeMs) reply.header('connection', 'close');
    done(null, payload);
  });
  // `close` comes at the end of every answer, even if the client left before it.
  app.server.on('request', (request, response) => {
    underWay.set(request, response);
    response.once('close', () => underWay.delete(request));
  });
  app.addHook('preClose', async () => {
    closing = true;
    if (!app.server.listening) return;
    const patientUntilMs = performance.now() + UPLOAD_PATIENCE_MS;
    const sweep = setInterval(() => {
      // Node closes idle connections by now, but not those that never sent a request; they would delay the stop.
      if (underWay.size === 0) app.server.closeAllConnections();
      if (performance.now() < patientUntilMs) return;
      for (const request of underWay.keys()) if (!request.complete) request.destroy();
    }, CLOSE_SWEEP_MS);
    app.server.once('close', () => clearInterval(sweep));
  });
}

/**
 * Answers bytes that never became a request: headers too large or too slow, or not HTTP at all. If they follow a complete
 * request, that request gets its own answer and no other: it may be an accepted order.
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
