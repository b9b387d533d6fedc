import { randomBytes } from './random.ts';

/** One step of a distributed trace, as W3C Trace Context names it (https://www.w3.org/TR/trace-context/). */
export type TraceContext = { traceId: string; spanId: string; flags: string };

const TRACEPARENT =
  /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** The trace that a `traceparent` belongs to; an absent or malformed one starts a new trace. */
export function traceIdOf(traceparent: unknown): string {
  return parse(traceparent)?.[1] ?? randomHex(16);
}

/** Continues the trace of a `traceparent` in a new span. */
export function continueTrace(traceparent: unknown): TraceContext {
  return {
    traceId: traceIdOf(traceparent),
    spanId: randomHex(8),
    flags: parse(traceparent)?.[3] ?? '01',
  };
}

const parse = (traceparent: unknown) =>
  typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent) : null;

export function formatTraceparent({ traceId, spanId, flags }: TraceContext): string {
  return `00-${traceId}-${spanId}-${flags}`;
}

const randomHex = (bytes: number) => randomBytes(bytes).toString('hex');
