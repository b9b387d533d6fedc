import type { FastifyInstance } from 'fastify';
import { ProblemError } from './problem.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** Counted against the limit of {@link limitBytesInWork}. */
    heldBytes: number;
  }
  interface FastifyInstance {
    /** A hook for routes with large answers: reserves so many bytes before the route runs. */
    takeBytes: (
      bytes: number,
    ) => (request: { heldBytes: number }, reply: unknown, done: (error?: Error) => void) => void;
  }
}

/** Smaller answers go to the kernel at once, whether the client reads them or not. */
const SMALL_ANSWER_CHARACTERS = 64 * 1024;
/** A client that does not read a large answer keeps its memory from other requests. */
const READ_TIMEOUT_MS = 30_000;

/**
 * Holds at most `maxBytes` of bodies and large answers at once. A request beyond that is answered 429 before its body is
 * read; its declared length counts, or without one the limit of its route. A body counts until its answer is ready, even
 * if the client is gone; a large answer counts until it is sent.
 */
export function limitBytesInWork(app: FastifyInstance, maxBytes: number): void {
  let held = 0;
  const hold = (request: { heldBytes: number }, bytes: number) => {
    held += bytes - request.heldBytes;
    request.heldBytes = bytes;
  };
  const fits = (bytes: number) => held + bytes <= maxBytes;

  app.decorateRequest('heldBytes', 0);
  app.decorate('takeBytes', (bytes) => (request, _reply, done) => {
    if (!fits(bytes)) return done(busy());
    hold(request, bytes);
    done();
  });
  app.addHook('onRequest', (request, _reply, done) => {
    if (request.method !== 'POST') return done();
    const { 'content-length': declared, 'transfer-encoding': chunked } = request.headers;
    let bytes = Number(declared ?? 0);
    if (chunked !== undefined || !fits(bytes)) {
      const { bodyLimit } = request.routeOptions;
      // It will be refused for its size, without reading it.
      if (bytes > bodyLimit) return done();
      bytes = chunked === undefined ? bytes : bodyLimit;
      if (!fits(bytes)) return done(busy());
    }
    hold(request, bytes);
    done();
  });
  app.addHook('onSend', (request, reply, payload, done) => {
    const large = typeof payload === 'string' && payload.length > SMALL_ANSWER_CHARACTERS;
    if (!large) {
      if (request.heldBytes > 0) hold(request, 0);
      return done(null, payload);
    }
    const bytes = Buffer.byteLength(payload);
    // A POST has already had its effect, so the client gets the answer in any case.
    if (request.method !== 'POST' && !fits(bytes - request.heldBytes)) return done(busy());
    if (reply.raw.destroyed) {
      hold(request, 0);
      return done(null, payload);
    }
    hold(request, bytes);
    const unread = setTimeout(() => request.raw.destroy(), READ_TIMEOUT_MS);
    reply.raw.once('close', () => {
      clearTimeout(unread);
      hold(request, 0);
    });
    done(null, payload);
  });
}

const busy = () => new ProblemError('busy', 'too much is under way: send it again in a moment');
