import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { openOldOrders } from './old-orders.ts';
import { aFate } from './order-repository.contract.ts';
import { openSqliteOrderRepository } from './sqlite-order-repository.ts';

it('removeFates, of an old fate and a new one, removes the old one', async () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'old-fates-'));
  const file = path.join(folder, 'orders.db');
  const repository = openSqliteOrderRepository(file);
  const old = await openOldOrders(`sqlite:${file}`, 30);
  onTestFinished(async () => {
    await old.close();
    await repository.close();
    rmSync(folder, { recursive: true });
  });
  const fresh = aFate({ at: new Date(old.before.getTime() + 1_000) });
  const stale = aFate({ at: new Date(old.before.getTime() - 1_000) });
  await repository.recordFates([fresh, stale]);
  expect(await old.removeFates()).toBe(1);
  expect(await repository.findFates(stale.orderId)).toEqual([]);
  expect(await repository.findFates(fresh.orderId)).toEqual([fresh]);
});
