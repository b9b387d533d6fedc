import { isUtf8 } from 'node:buffer';
import type { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { ProblemError, type ProblemKind } from './problem.ts';

/**
 * Reads JSON bodies and accepts only UTF-8 (RFC 8259 §8.1). Decoding would replace other bytes, and the stored order
 * would differ from the one that was sent. A byte order mark at the start is ignored, as that section allows.
 */
export function readJsonBodies(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser(['text/plain', 'application/json']);
  app.addContentTypeParser('application/json', (request, payload, done) => {
    const { bodyLimit } = request.routeOptions;
    const expectedBytes = Number(request.headers['content-length']);
    const refuse = (kind: ProblemKind, detail: string) => done(new ProblemError(kind, detail));
    readBody(payload, { expectedBytes, bodyLimit }, (error, body) => {
      if (error) return done(error);
      if (!isUtf8(body)) return refuse('not-utf-8', 'the body is not UTF-8');
      const shape = body.length <= UNCHECKED_BYTES ? 'ok' : shapeOf(body);
      if (shape === 'too-deep') return refuse(shape, `JSON of more than ${MAX_DEPTH} levels`);
      if (shape === 'too-many-objects')
        return refuse(shape, `more than one object or array per ${MIN_BYTES_PER_OBJECT} bytes of JSON`);
      return parse(request, body.toString(), done);
    });
  });
}

/** An order has four levels. RFC 8259 §9 allows a limit: each level costs a hundred bytes while it is read. */
const MAX_DEPTH = 64;
/** The smallest item has 43. `{}` takes 56 bytes of memory for 3 of JSON, so a few bodies could fill it. */
const MIN_BYTES_PER_OBJECT = 16;
/** Not checked: whatever they hold fits into memory. The check takes a tenth of the time of parsing. */
const UNCHECKED_BYTES = 64 * 1024;

function shapeOf(json: Buffer): 'ok' | 'too-deep' | 'too-many-objects' {
  let depth = 0;
  let objects = 0;
  let inText = false;
  for (let at = 0; at < json.length; at++) {
    const byte = json[at];
    if (byte === QUOTE) inText = !inText;
    else if (inText) at += byte === BACKSLASH ? 1 : 0;
    else if (byte === BRACKET || byte === BRACE) {
      objects++;
      if (++depth > MAX_DEPTH) return 'too-deep';
    } else if (byte === CLOSING_BRACKET || byte === CLOSING_BRACE) depth--;
  }
  return objects > json.length / MIN_BYTES_PER_OBJECT ? 'too-many-objects' : 'ok';
}

const [QUOTE, BACKSLASH, BRACKET, CLOSING_BRACKET, BRACE, CLOSING_BRACE] = Buffer.from('"\\[]{}');
const FIRST_BYTES = 4_096;
const EMPTY = Buffer.alloc(0);

/**
 * Reads into one buffer, not a list of chunks: a chunk may be a single byte, and a chunk object costs a hundred times that.
 * @param done is called once
 */
function readBody(
  payload: Readable,
  { expectedBytes, bodyLimit }: { expectedBytes: number; bodyLimit: number },
  done: (error: Error | undefined, body: Buffer) => void,
): void {
  let body: Buffer | undefined;
  let length = 0;
  const end = (error?: Error) => {
    payload.off('data', onData).off('end', end).off('error', onError);
    done(error, body?.subarray(0, length) ?? EMPTY);
  };
  const onError = (cause: Error) =>
    end(new ProblemError('incomplete-body', 'the connection ended before the body did', { cause }));
  const onData = (chunk: Buffer) => {
    const needed = length + chunk.length;
    if (needed > bodyLimit) return end(tooLarge(bodyLimit));
    if (body === undefined && needed === expectedBytes) {
      body = chunk;
    } else {
      if (body === undefined || needed > body.length) {
        const larger = Buffer.allocUnsafeSlow(
          expectedBytes >= needed ? expectedBytes : Math.min(bodyLimit, Math.max(FIRST_BYTES, 2 * needed)),
        );
        body?.copy(larger, 0, 0, length);
        body = larger;
      }
      chunk.copy(body, length);
    }
    length = needed;
  };
  if (expectedBytes > bodyLimit) done(tooLarge(bodyLimit), EMPTY);
  else payload.on('data', onData).on('end', end).on('error', onError);
}

const tooLarge = (bodyLimit: number) =>
  new ProblemError('too-large', `the body has more than ${bodyLimit} bytes`);
