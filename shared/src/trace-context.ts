import { randomBytes } from 'node:crypto';

/** One step of a distributed trace, as W3C Trace Context names it (https://www.w3.org/TR/trace-context/). */
export type TraceContext = { traceId: string; spanId: string; flags: string };

const TRACEPARENT =
  /^(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?$/;

/** Carries on the trace of a `traceparent`, in a new span; an absent or malformed one starts a new trace. */
export function continueTrace(traceparent: unknown): TraceContext {
  const parent = typeof traceparent === 'string' ? TRACEPARENT.exec(traceparent) : null;
  return {
    traceId: parent?.[1] ?? randomBytes(16).toString('hex'),
    spanId: randomBytes(8).toString('hex'),
    flags: parent?.[3] ?? '01',
  };
}

export function formatTraceparent({ traceId, spanId, flags }: TraceContext): string {
  return `00-${traceId}-${spanId}-${flags}`;
}
