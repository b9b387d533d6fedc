import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { Condition } from '../condition.ts';
import type { StoreGate } from '../store/store-gate.ts';
import { Admission } from './admission.ts';
import { Consumption } from './consumption.ts';
import { PollerScale } from './poller-scale.ts';
import { WorkLimit } from './work-limit.ts';

/** Ten places, of which ten are asked for. */
function anAdmission({ pollers = 2, limit = new WorkLimit(10, 10) } = {}) {
  const changed = new Condition();
  const store = { allowance: Number.POSITIVE_INFINITY };
  const gate = { allowance: () => store.allowance, recordReceived: () => {} } as unknown as StoreGate;
  const scale = new PollerScale(pollers);
  for (let poller = 1; poller < pollers; poller++) scale.recordPoll({ asked: 1, received: 1 });
  const consumption = new Consumption(changed);
  const admission = new Admission({ scale, gate, limit, consumption, changed });
  const stop = new AbortController();
  return {
    admission,
    consumption,
    scale,
    stop,
    allow: (allowance: number) => {
      store.allowance = allowance;
      changed.notifyAll();
    },
    request: (poller: number, most = 10) => admission.request(poller, most, stop.signal),
  };
}

describe('admission', () => {
  test('while consuming is paused, grants no poll, takes no places, and grants one when it is resumed', async () => {
    const { admission, consumption, request } = anAdmission();
    expect(await request(0)).toBe(10);
    expect(consumption.set(true, 'oncall')).toBe(true);
    const waiting = request(0);
    admission.release(10);
    expect(consumption.set(true, 'another')).toBe(false);
    expect(consumption.pause).toMatchObject({ by: 'oncall' });
    expect(await Promise.race([waiting, setImmediate('waits')])).toBe('waits');
    consumption.set(false, 'oncall');
    expect(await waiting).toBe(10);
  });

  test('while consuming is paused, a stop ends the wait', async () => {
    const { consumption, request, stop } = anAdmission();
    consumption.set(true, undefined);
    const waiting = request(0);
    stop.abort();
    expect(await waiting).toBe(0);
  });

  test('when two pollers wait for the same places, one gets them and the other goes on waiting', async () => {
    const { admission, request, stop } = anAdmission();
    expect(await request(0)).toBe(10);
    const [first, second] = [request(0), request(1)];
    admission.release(10);
    expect(await first).toBe(10);
    admission.release(3);
    expect(await second).toBe(3);
    const third = request(0, 1);
    stop.abort();
    expect(await third).toBe(0);
  });

  test('when a poll brings fewer messages than it asked for, the other places are free', async () => {
    const { admission, request } = anAdmission();
    await request(0);
    const next = request(1);
    admission.recordPoll({ asked: 10, received: 4 });
    expect(await next).toBe(6);
  });

  test('a poller that is not wanted waits, whatever is free, until polls come back full', async () => {
    const { admission, request } = anAdmission({ pollers: 1 });
    const { admission: scaled, request: requestScaled } = anAdmission({ limit: new WorkLimit(30, 30) });
    let granted = false;
    void request(1).then(() => {
      granted = true;
    });
    admission.recordPoll({ asked: 0, received: 0 });
    await setImmediate();
    expect(granted).toBe(false);
    scaled.recordPoll({ asked: 0, received: 0 });
    const second = requestScaled(1);
    scaled.recordPoll({ asked: 0, received: 1 });
    expect(await second).toBe(10);
  });

  test('while the store is down, no poller asks; while it is being proven, one asks for as many as the gate allows', async () => {
    const { allow, request } = anAdmission();
    allow(0);
    const waiting = request(0);
    allow(1);
    expect(await waiting).toBe(1);
  });

  test('the limit learns of a wait for places, and of no other', async () => {
    const limit = new WorkLimit(10, 10);
    let waits = 0;
    limit.recordWait = () => {
      waits++;
    };
    const { allow, request } = anAdmission({ limit });
    await request(0);
    allow(0);
    void request(0);
    expect(waits).toBe(0);
    allow(Number.POSITIVE_INFINITY);
    expect(waits).toBe(1);
  });
});
