import { describe, expect, it } from 'vitest';
import { continueTrace, formatTraceparent } from './trace-context.ts';

const TRACE_ID = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN_ID = '00f067aa0ba902b7';

describe('continueTrace', () => {
  it('continueTrace, given a traceparent, keeps trace and flags in a new span', () => {
    const trace = continueTrace(`00-${TRACE_ID}-${SPAN_ID}-00`);
    expect(trace).toMatchObject({ traceId: TRACE_ID, flags: '00' });
    expect(trace.spanId).toMatch(/^[0-9a-f]{16}$/);
    expect(trace.spanId).not.toBe(SPAN_ID);
  });

  it('continueTrace, given a future version with more fields, carries the trace on', () => {
    expect(continueTrace(`01-${TRACE_ID}-${SPAN_ID}-01-more`).traceId).toBe(TRACE_ID);
  });

  it.each([
    ['absent', undefined],
    ['empty', ''],
    ['given twice', [`00-${TRACE_ID}-${SPAN_ID}-01`, `00-${TRACE_ID}-${SPAN_ID}-01`]],
    ['of version ff', `ff-${TRACE_ID}-${SPAN_ID}-01`],
    ['in capitals', `00-${TRACE_ID.toUpperCase()}-${SPAN_ID}-01`],
    ['of an all-zero trace', `00-${'0'.repeat(32)}-${SPAN_ID}-01`],
    ['of an all-zero span', `00-${TRACE_ID}-${'0'.repeat(16)}-01`],
    ['cut short', `00-${TRACE_ID}-${SPAN_ID}`],
    ['followed by garbage', `00-${TRACE_ID}-${SPAN_ID}-01x`],
  ])('continueTrace, given a traceparent that is %s, starts a new sampled trace', (_what, traceparent) => {
    const trace = continueTrace(traceparent);
    expect(trace).toEqual({
      traceId: expect.stringMatching(/^[0-9a-f]{32}$/),
      spanId: expect.stringMatching(/^[0-9a-f]{16}$/),
      flags: '01',
    });
    expect(trace.traceId).not.toBe(TRACE_ID);
  });

  it('formatTraceparent, given a continued trace, can be continued again', () => {
    const traceparent = formatTraceparent({ traceId: TRACE_ID, spanId: SPAN_ID, flags: '01' });
    expect(traceparent).toBe(`00-${TRACE_ID}-${SPAN_ID}-01`);
    expect(continueTrace(traceparent).traceId).toBe(TRACE_ID);
  });
});
