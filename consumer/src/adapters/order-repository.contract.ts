import { randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { toStore as anOrder, resultsOf } from '../../testing/orders.ts';
import { StoreUnavailableError } from '../domain/errors.ts';
import { MAX_FATES_READ, type OrderFate } from '../domain/order-fate.ts';
import type { OrderRepository, OrderToStore, StoredOrder } from '../domain/order-repository.ts';

export type OpenedForTest = {
  repository: OrderRepository;
  /** Opens the same store once more, over connections of its own. Absent where a store has but one owner. */
  reopen?: () => Promise<OrderRepository>;
  /** Runs statements over a connection of its own. Absent where there can be none. */
  exec?: (sql: string) => unknown;
};

/** Statements, by name, after which a rule of the store meets orders of the customer `blocked`, and no others. */
export type Rules = { refusing: Record<string, string>; swallowing: Record<string, string> };

export const POSTGRES_RULES: Rules = {
  refusing: {
    'a trigger raises an error': trigger(`RAISE EXCEPTION 'blocked'`),
    'a trigger raises an error of its own code': trigger(`RAISE EXCEPTION 'blocked' USING ERRCODE = 'CR001'`),
    'a trigger raises the code of a missing right': trigger(
      `RAISE EXCEPTION 'blocked' USING ERRCODE = '42501'`,
    ),
    'a second unique index is in the way': `
      INSERT INTO orders (order_id, customer_id, created_at_ms, content_hash, trace_id, data)
      VALUES (gen_random_uuid(), 'blocked', 0, '', '', '{}');
      CREATE UNIQUE INDEX blocked ON orders (customer_id) WHERE customer_id = 'blocked'`,
  },
  swallowing: { 'a trigger returns no row': trigger('RETURN NULL') },
};

function trigger(body: string): string {
  return `
    CREATE FUNCTION blocked() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN ${body}; END $$;
    CREATE TRIGGER blocked BEFORE INSERT ON orders FOR EACH ROW
    WHEN (NEW.customer_id = 'blocked') EXECUTE FUNCTION blocked()`;
}

export { anOrder, resultsOf };

/** A rejection of an order that nobody has stored. */
export const aFate = (overrides: Partial<OrderFate> = {}): OrderFate => ({
  kind: 'REJECTED',
  orderId: randomUUID(),
  messageId: randomUUID(),
  contentHash: 'v1:abc',
  clientId: undefined,
  reason: 'INVALID_ORDER',
  detail: 'items: too few',
  attempts: 1,
  failures: 0,
  firstSeenAt: new Date('2026-03-01T00:00:00.123Z'),
  at: new Date('2026-03-01T00:00:01.456Z'),
  release: '1.2.3',
  traceId: 'a'.repeat(32),
  ...overrides,
});

export function withOtherContent({ order }: OrderToStore): OrderToStore {
  return anOrder({ ...order, customerId: 'customer-2' });
}

const idsOf = (orders: readonly (OrderToStore | StoredOrder)[]): string[] =>
  orders.map(({ order }) => order.orderId);

/** What every order repository must do, whatever is behind it. */
export function describeOrderRepository(
  name: string,
  open: () => Promise<OpenedForTest>,
  rules?: Rules,
): void {
  describe(`${name} as an order repository`, () => {
    let repository: OrderRepository;
    let reopen: OpenedForTest['reopen'];
    let exec: OpenedForTest['exec'];
    const opened: OrderRepository[] = [];

    beforeEach(async () => {
      ({ repository, reopen, exec } = await open());
      opened.push(repository);
    });
    afterEach(async () => {
      await Promise.all(opened.splice(0).map((each) => each.close()));
    });
    const openAgain = async (): Promise<OrderRepository> => {
      if (!reopen) throw new Error('this store has but one owner');
      const other = await reopen();
      opened.push(other);
      return other;
    };

    describe('fates', () => {
      it('findFates, of an order whose message was rejected and redriven, returns both as they were recorded, by their times', async () => {
        const rejected = aFate({ clientId: 'shop-a', detail: '한국어 "quoted"' });
        const redriven = { ...rejected, kind: 'REDRIVEN' as const, at: new Date('2026-03-02T00:00:00Z') };
        await repository.recordFates([redriven, aFate(), rejected]);
        expect(await repository.findFates(rejected.orderId.toUpperCase())).toEqual([rejected, redriven]);
      });

      it('recordFates, of what is known, keeps what was recorded first', async () => {
        const first = aFate();
        await repository.recordFates([first, { ...first, reason: 'CONFLICT' }]);
        await repository.recordFates([{ ...first, reason: 'CONFLICT', at: new Date() }]);
        expect(await repository.findFates(first.orderId)).toEqual([first]);
      });

      it('findFates, asked by a client, returns its own and not those of others or of nobody', async () => {
        const mine = aFate({ clientId: 'shop-a' });
        const { orderId } = mine;
        await repository.recordFates([mine, aFate({ orderId, clientId: 'shop-b' }), aFate({ orderId })]);
        expect(await repository.findFates(orderId, { ownedBy: 'shop-a' })).toEqual([mine]);
        expect(await repository.findFates(orderId, { ownedBy: '' })).toEqual([]);
        expect(await repository.findFates(orderId)).toHaveLength(3);
      });

      it('findFates, of more than are read, returns the latest', async () => {
        const orderId = randomUUID();
        const many = Array.from({ length: MAX_FATES_READ + 1 }, (_, n) =>
          aFate({ orderId, at: new Date(n) }),
        );
        await repository.recordFates(many);
        expect(await repository.findFates(orderId)).toEqual(many.slice(1));
      });

      it('recordFates, of what is no order id, with texts and numbers that no database takes, records what it can', async () => {
        const fate = aFate({ detail: 'a\0b\ud800', contentHash: 'v'.repeat(9_000), attempts: 2 ** 50 });
        await repository.recordFates([aFate({ orderId: "x'; --" }), fate]);
        expect(await repository.findFates(fate.orderId)).toMatchObject([
          { detail: 'ab\ufffd', contentHash: 'v'.repeat(200), attempts: 2 ** 31 - 1 },
        ]);
        expect(await repository.findFates("x'; --")).toEqual([]);
      });

      it('a fate, of an order that is stored, leaves the order as it is', async () => {
        const order = anOrder();
        await repository.saveAll([order]);
        await repository.recordFates([aFate({ orderId: order.order.orderId })]);
        expect(await repository.findById(order.order.orderId)).toMatchObject(order);
      });
    });

    describe('saveAll', () => {
      it('saveAll, with new orders, stores each', async () => {
        const orders = [anOrder(), anOrder(), anOrder()];
        expect(resultsOf(await repository.saveAll(orders))).toEqual(['stored', 'stored', 'stored']);
        expect(idsOf(await repository.findByIds(idsOf(orders))).sort()).toEqual(idsOf(orders).sort());
      });

      it('saveAll, with new, same and other content mixed, returns each result in order and keeps what was there', async () => {
        const same = anOrder();
        const taken = anOrder();
        await repository.saveAll([same, taken]);
        const batch = [withOtherContent(taken), anOrder(), same, anOrder()];
        expect(resultsOf(await repository.saveAll(batch))).toEqual([
          'conflict',
          'stored',
          'duplicate',
          'stored',
        ]);
        expect((await repository.findById(taken.order.orderId))?.order).toEqual(taken.order);
      });

      it('saveAll, with the same content at another time, calls it a duplicate and keeps the first time', async () => {
        const first = anOrder();
        await repository.saveAll([first]);
        const again = anOrder({ ...first.order, createdAt: '2026-03-02T00:00:00Z' });
        expect(resultsOf(await repository.saveAll([again]))).toEqual(['duplicate']);
        expect((await repository.findById(first.order.orderId))?.order.createdAt).toBe(first.order.createdAt);
      });

      it("saveAll, with another client's order under a taken id, calls it a conflict, whatever its content", async () => {
        const mine = anOrder({}, 'shop-a');
        const yours = { ...mine, clientId: 'shop-b' };
        expect(resultsOf(await repository.saveAll([mine, yours, mine]))).toEqual([
          'stored',
          'conflict',
          'duplicate',
        ]);
        expect(resultsOf(await repository.saveAll([yours, mine]))).toEqual(['conflict', 'duplicate']);
        expect(await repository.findById(mine.order.orderId)).toMatchObject(mine);
      });

      it("saveAll, with an order of nobody and the same one of a client, takes them for one, and the first one's owner stays", async () => {
        const [early, late] = [anOrder(), anOrder({}, 'shop-a')];
        const claimed = { ...early, clientId: 'shop-a' };
        const unclaimed = { ...late, clientId: undefined };
        await repository.saveAll([early, late]);
        expect(resultsOf(await repository.saveAll([claimed, unclaimed]))).toEqual(['duplicate', 'duplicate']);
        const owners = (await repository.findByIds(idsOf([early, late]))).map(({ clientId }) => clientId);
        expect(owners).toEqual([undefined, 'shop-a']);
      });

      it('saveAll, with one id several times in a call, stores the first and compares the others with it', async () => {
        const first = anOrder();
        const batch = [first, withOtherContent(first), first, anOrder()];
        expect(resultsOf(await repository.saveAll(batch))).toEqual([
          'stored',
          'conflict',
          'duplicate',
          'stored',
        ]);
        expect((await repository.findById(first.order.orderId))?.order).toEqual(first.order);
      });

      it('saveAll, with a stored id several times in a call, compares each with what is stored', async () => {
        const stored = anOrder();
        const other = withOtherContent(stored);
        await repository.saveAll([stored]);
        expect(resultsOf(await repository.saveAll([other, stored, other]))).toEqual([
          'conflict',
          'duplicate',
          'conflict',
        ]);
      });

      it('saveAll, with one id in upper and lower case, takes it for the same order', async () => {
        const lower = anOrder();
        const upper = { ...lower, order: { ...lower.order, orderId: lower.order.orderId.toUpperCase() } };
        expect(resultsOf(await repository.saveAll([lower, upper]))).toEqual(['stored', 'duplicate']);
        expect(resultsOf(await repository.saveAll([upper]))).toEqual(['duplicate']);
      });

      it('saveAll, with no orders, returns nothing', async () => {
        expect(resultsOf(await repository.saveAll([]))).toEqual([]);
      });

      it('saveAll, called by several at once, returns to each caller the results of its own orders', async () => {
        const [mine, yours, shared] = [anOrder(), anOrder(), anOrder()];
        const [a, b] = await Promise.all([
          repository.saveAll([mine, shared]),
          repository.saveAll([shared, yours]),
        ]);
        expect(a[0]).toEqual([mine, 'stored']);
        expect(b[1]).toEqual([yours, 'stored']);
        expect([a[1]?.[1], b[0]?.[1]].sort()).toEqual(['duplicate', 'stored']);
      });

      it('saveAll, called by many at once, returns to each caller the results of its own orders, whatever those of the others are', async () => {
        const shared = anOrder();
        const rival = withOtherContent(shared);
        // The first ones keep the store busy: what comes meanwhile may share a statement.
        const busy = Array.from({ length: 4 }, () => repository.saveAll([anOrder()]));
        const own = Array.from({ length: 12 }, () => anOrder());
        const others = own.map((_, index) => (index % 3 === 0 ? rival : shared));
        const calls = own.map((mine, index) => repository.saveAll([mine, others[index] as typeof shared]));
        const results = await Promise.all(calls);
        expect(resultsOf((await Promise.all(busy)).flat())).toEqual(Array(4).fill('stored'));
        expect(results.map(([first]) => first)).toEqual(own.map((mine) => [mine, 'stored']));
        const [kept] = await repository.findByIds(idsOf([shared]));
        const [same, other] = [true, false].map((isSame) =>
          results
            .filter((_, index) => (others[index]?.contentHash === kept?.contentHash) === isSame)
            .map(([, second]) => second?.[1])
            .sort(),
        );
        expect(same).toEqual([...Array(Number(same?.length) - 1).fill('duplicate'), 'stored']);
        expect(other).toEqual(Array(12 - Number(same?.length)).fill('conflict'));
      });

      it('saveAll, called by many at once, rejects those alone whose orders cannot be stored', async () => {
        const saves = Array.from({ length: 12 }, (_, index) =>
          repository.saveAll([anOrder(), anOrder(index % 5 === 4 ? { createdAt: 'no time at all' } : {})]),
        );
        const refused = (await Promise.allSettled(saves)).flatMap(({ status }, index) =>
          status === 'rejected' ? index : [],
        );
        expect(refused).toEqual([4, 9]);
      });

      it('saveAll, with an order that cannot be stored among others, rejects with ORDER_NOT_STORABLE and stores none', async () => {
        const good = anOrder();
        const bad = anOrder({ createdAt: 'no time at all' });
        await expect(repository.saveAll([good, bad])).rejects.toMatchObject({
          code: 'ORDER_NOT_STORABLE',
          cause: expect.any(Error),
        });
        expect(await repository.findById(good.order.orderId)).toBeUndefined();
        expect(resultsOf(await repository.saveAll([good]))).toEqual(['stored']);
      });

      it('saveAll, after close, rejects with STORE_UNAVAILABLE', async () => {
        await repository.close();
        await expect(repository.saveAll([anOrder()])).rejects.toBeInstanceOf(StoreUnavailableError);
        await expect(repository.findById(randomUUID())).rejects.toBeInstanceOf(StoreUnavailableError);
        await expect(repository.ping()).rejects.toBeInstanceOf(StoreUnavailableError);
        await expect(repository.rehearse([anOrder()])).rejects.toBeInstanceOf(StoreUnavailableError);
      });
    });

    describe.runIf(rules)('rules of the store', () => {
      const { refusing = {}, swallowing = {} } = rules ?? {};
      const [good, blocked] = [{ customerId: 'good' }, { customerId: 'blocked' }];

      it.each(Object.entries(refusing))(
        'saveAll, where %s for one of several orders, rejects with ORDER_REFUSED, and stores the others without it',
        async (_, rule) => {
          await exec?.(rule);
          const [first, second, bad] = [anOrder(good), anOrder(good), anOrder(blocked)];
          const refusal = { code: 'ORDER_REFUSED', refusal: expect.stringMatching(/./) };
          const saves = await Promise.allSettled([
            repository.saveAll([first, bad]),
            repository.saveAll([second]),
          ]);
          expect(saves).toMatchObject([
            { status: 'rejected', reason: refusal },
            { status: 'fulfilled', value: [[second, 'stored']] },
          ]);
          await expect(repository.saveAll([bad])).rejects.toMatchObject(refusal);
          expect(resultsOf(await repository.saveAll([first, second]))).toEqual(['stored', 'duplicate']);
          await expect(repository.ping()).resolves.toBeUndefined();
        },
      );

      it.each(Object.entries(refusing))(
        'rehearse, where %s, is refused as a save is, and of other orders resolves',
        async (_, rule) => {
          await exec?.(rule);
          const bad = anOrder(blocked);
          const error = await repository.saveAll([bad]).catch((error) => error);
          await expect(repository.rehearse([anOrder(good), bad])).rejects.toMatchObject({
            code: 'ORDER_REFUSED',
            refusal: error.refusal,
          });
          await expect(repository.rehearse([anOrder(good)])).resolves.toBeUndefined();
        },
      );

      it.each(Object.entries(swallowing))(
        'saveAll and rehearse, where %s for one of several orders, say so of that one',
        async (_, rule) => {
          await exec?.(rule);
          const batch = [anOrder(good), anOrder(blocked), anOrder(good)];
          expect(resultsOf(await repository.saveAll(batch))).toEqual(['stored', 'swallowed', 'stored']);
          await expect(repository.rehearse([anOrder(good), anOrder(blocked)])).rejects.toMatchObject({
            refusal: 'SWALLOWED',
          });
        },
      );
    });

    describe('rehearse', () => {
      it('rehearse, of a store that works, resolves, and nobody ever sees the orders', async () => {
        const orders = [anOrder({ customerId: 'nobody' }), anOrder({ customerId: 'nobody' })];
        for (let i = 0; i < 3; i++) await expect(repository.rehearse(orders)).resolves.toBeUndefined();
        expect(await repository.findByIds(idsOf(orders))).toEqual([]);
        expect(await repository.findByCustomer('nobody', { limit: 5 })).toEqual([]);
        expect(resultsOf(await repository.saveAll(orders))).toEqual(['stored', 'stored']);
      });

      it('rehearse, of an order that cannot be stored, rejects with ORDER_NOT_STORABLE, and saves go on', async () => {
        await expect(repository.rehearse([anOrder({ createdAt: 'no time at all' })])).rejects.toMatchObject({
          code: 'ORDER_NOT_STORABLE',
        });
        expect(resultsOf(await repository.saveAll([anOrder()]))).toEqual(['stored']);
      });

      it('rehearse, beside saves, disturbs none', async () => {
        const [shared, other] = [anOrder(), anOrder()];
        const [, first, , second] = await Promise.all([
          repository.rehearse([anOrder(), anOrder()]),
          repository.saveAll([shared]),
          repository.rehearse([anOrder()]),
          repository.saveAll([other]),
        ]);
        expect(resultsOf([...first, ...second])).toEqual(['stored', 'stored']);
      });
    });

    describe('finding', () => {
      it('findById returns an order with everything in it, to the letter', async () => {
        const before = Date.now();
        const rich = anOrder({
          customerId: '顧客-👩‍🚀-ß-"\'\\',
          items: [
            { productId: 'gift', name: '무료 상품 🎁', quantity: 1, unitPrice: 0 },
            { productId: 'big', name: 'Größe { "x": [1] }', quantity: 1_000_000, unitPrice: 9_000_000 },
          ],
          adjustment: -9_000_000_000_000,
          totalAmount: 0,
          createdAt: '2026-03-01T10:00:00.123456+09:00',
          metadata: { 'clé ✓': 'valeur', __proto__x: '', empty: ' ' },
        });
        await repository.saveAll([rich]);
        const found = await repository.findById(rich.order.orderId);
        const sizeBytes = Buffer.byteLength(JSON.stringify(rich.order));
        expect(found).toStrictEqual({ ...rich, storedAt: expect.any(Date), sizeBytes });
        expect(Math.abs((found as StoredOrder).storedAt.getTime() - before)).toBeLessThan(60_000);
      });

      it('findById, with the id in upper case, finds the order', async () => {
        const saved = anOrder();
        await repository.saveAll([saved]);
        expect((await repository.findById(saved.order.orderId.toUpperCase()))?.order).toEqual(saved.order);
      });

      it('findById, of what is not stored or no id at all, finds nothing', async () => {
        expect(await repository.findById(randomUUID())).toBeUndefined();
        expect(await repository.findById("x'; --")).toBeUndefined();
      });

      it('findAny, of a store with orders, finds one, and of an empty one none', async () => {
        expect(await repository.findAny()).toBeUndefined();
        const orders = [anOrder(), anOrder()];
        await repository.saveAll(orders);
        const found = await repository.findAny();
        expect(orders).toContainEqual({ ...found, storedAt: undefined, sizeBytes: undefined });
      });

      it('findByIds, with known, unknown, repeated and impossible ids, returns each known order once and in order', async () => {
        const [a, b] = [anOrder(), anOrder()];
        await repository.saveAll([a, b, anOrder()]);
        const asked = [randomUUID(), ...idsOf([b, a, b]), 'no-id', a.order.orderId.toUpperCase()];
        expect(idsOf(await repository.findByIds(asked))).toEqual(idsOf([b, a]));
        expect(await repository.findByIds([])).toEqual([]);
      });

      it('findByIds and findByCustomer, with a limit of bytes, end with the order that makes it full', async () => {
        const large = Array.from({ length: 6 }, (_, n) => {
          const metadata = Object.fromEntries(
            Array.from({ length: 20 }, (_, key) => [key, '주문'.repeat(256)]),
          );
          return anOrder({ createdAt: `2026-03-0${6 - n}T10:00:00Z`, metadata });
        });
        await repository.saveAll(large);
        const sizeBytes = Buffer.byteLength(JSON.stringify(large[0]?.order));
        const counts = [
          [1, 1],
          [sizeBytes, 1],
          [sizeBytes + 1, 2],
          [3 * sizeBytes, 3],
          [100 * sizeBytes, 6],
        ] as const;
        for (const [maxBytes, count] of counts) {
          const first = idsOf(large.slice(0, count));
          const asked = [randomUUID(), ...idsOf(large)];
          expect(idsOf(await repository.findByIds(asked, { maxBytes }))).toEqual(first);
          expect(idsOf(await repository.findByCustomer('C-1001', { limit: 50, maxBytes }))).toEqual(first);
        }
        const after = {
          createdAtMs: Date.parse('2026-03-06T10:00:00Z'),
          orderId: large[0]?.order.orderId ?? '',
        };
        const page = await repository.findByCustomer('C-1001', { limit: 50, maxBytes: 2 * sizeBytes, after });
        expect(idsOf(page)).toEqual(idsOf(large.slice(1, 3)));
      });

      it('findByCustomer, paged through ties, returns every order of the customer once, newest first', async () => {
        const times = ['10:00:00.000Z', '10:00:00.001Z', '10:00:00.002Z', '12:00:00.001+02:00'];
        const orders = Array.from({ length: 22 }, (_, i) =>
          anOrder({ createdAt: `2026-03-01T${times[i % 4]}` }),
        );
        await repository.saveAll([...orders, anOrder({ customerId: 'customer-2' })]);

        const pages: StoredOrder[][] = [];
        for (let last: StoredOrder | undefined; ; ) {
          const after = last && {
            createdAtMs: Date.parse(last.order.createdAt),
            orderId: last.order.orderId,
          };
          const page = await repository.findByCustomer('C-1001', { limit: 5, after });
          if (page.length === 0) break;
          pages.push(page);
          last = page.at(-1);
        }

        const newestFirst = ({ order: a }: OrderToStore, { order: b }: OrderToStore) =>
          Date.parse(b.createdAt) - Date.parse(a.createdAt) || (a.orderId < b.orderId ? 1 : -1);
        expect(idsOf(pages.flat())).toEqual(idsOf(orders.sort(newestFirst)));
        expect(pages.map(({ length }) => length)).toEqual([5, 5, 5, 5, 2]);
      });

      it('findByCustomer, of a customer without orders or an impossible one, returns none', async () => {
        expect(await repository.findByCustomer('nobody', { limit: 5 })).toEqual([]);
        expect(await repository.findByCustomer('no\u0000body', { limit: 5 })).toEqual([]);
      });

      it("what is found for one client is what it would be if there were no others' orders", async () => {
        const at = (day: number) => ({ createdAt: `2026-03-${String(day).padStart(2, '0')}T10:00:00Z` });
        const own = [9, 7, 5, 3].map((day) => anOrder(at(day), 'shop-a'));
        const others = [10, 8, 7, 6].map((day, n) => anOrder(at(day), n % 2 === 0 ? 'shop-b' : undefined));
        await repository.saveAll([...others, ...own]);
        const ownedBy = 'shop-a';
        for (const each of own)
          expect(await repository.findById(each.order.orderId, { ownedBy })).toMatchObject(each);
        for (const { order } of others)
          expect(await repository.findById(order.orderId, { ownedBy })).toBeUndefined();
        const asked = idsOf([...others, ...own]);
        expect(idsOf(await repository.findByIds(asked, { ownedBy }))).toEqual(idsOf(own));
        expect(idsOf(await repository.findByIds(asked, { ownedBy, maxBytes: 1 }))).toEqual(
          idsOf(own.slice(0, 1)),
        );
        const page = async (
          limit: number,
          { order }: OrderToStore | { order: undefined } = { order: undefined },
        ) =>
          idsOf(
            await repository.findByCustomer('C-1001', {
              limit,
              ownedBy,
              after: order && { createdAtMs: Date.parse(order.createdAt), orderId: order.orderId },
            }),
          );
        expect(await page(50)).toEqual(idsOf(own));
        expect(await page(2)).toEqual(idsOf(own.slice(0, 2)));
        expect(await page(50, own[1])).toEqual(idsOf(own.slice(2)));
        // A cursor of somebody else is but a place in time.
        expect(await page(50, others[1])).toEqual(idsOf(own.slice(1)));
        expect(idsOf(await repository.findByCustomer('C-1001', { limit: 50, ownedBy: '' }))).toEqual([]);
        expect(await repository.findByCustomer('C-1001', { limit: 50 })).toHaveLength(8);
      });

      it('ping, of a store that works, resolves, again and again', async () => {
        for (let i = 0; i < 3; i++) await expect(repository.ping()).resolves.toBeUndefined();
      });
    });

    it('close, called twice, resolves', async () => {
      await repository.close();
      await expect(repository.close()).resolves.toBeUndefined();
    });

    it('close, with saves under way, lets them finish first', async () => {
      const saves = [repository.saveAll([anOrder()]), repository.saveAll([anOrder()])];
      await repository.close();
      expect(resultsOf((await Promise.all(saves)).flat())).toEqual(['stored', 'stored']);
    });

    it('store, closed and opened again, still holds what was stored', async ({ skip }) => {
      skip(!reopen, 'this store has but one owner');
      const saved = anOrder();
      await repository.saveAll([saved]);
      await repository.close();
      const other = await openAgain();
      expect(await other.findById(saved.order.orderId)).toMatchObject(saved);
      expect(resultsOf(await other.saveAll([saved, withOtherContent(saved)]))).toEqual([
        'duplicate',
        'conflict',
      ]);
    });

    it('store, given the same batches by two owners in opposite order, stores each order once', async ({
      skip,
    }) => {
      skip(!reopen, 'this store has but one owner');
      const other = await openAgain();
      const callers = [repository, other, repository, other];
      for (let round = 0; round < 25; round++) {
        const batch = Array.from({ length: 20 }, () => anOrder());
        const reversed = batch.toReversed();
        const results = await Promise.all(
          callers.map(async (caller, i) => {
            const results = resultsOf(await caller.saveAll(i % 2 === 0 ? batch : reversed));
            return i % 2 === 0 ? results : results.toReversed();
          }),
        );
        for (const index of batch.keys()) {
          const fates = results.map((each) => each[index]).sort();
          expect(fates).toEqual(['duplicate', 'duplicate', 'duplicate', 'stored']);
        }
        expect(await repository.findByIds(idsOf(batch))).toHaveLength(batch.length);
      }
    });

    it('store, given two contents of each id by two owners at once, keeps one and calls the other a conflict', async ({
      skip,
    }) => {
      skip(!reopen, 'this store has but one owner');
      const other = await openAgain();
      for (let round = 0; round < 25; round++) {
        const batch = Array.from({ length: 10 }, () => anOrder());
        const rivals = batch.map(withOtherContent).reverse();
        const [a, b] = await Promise.all([repository.saveAll(batch), other.saveAll(rivals)]);
        const stored = new Map(
          (await other.findByIds(idsOf(batch))).map(({ order, contentHash }) => [order.orderId, contentHash]),
        );
        for (const [index, { order, contentHash }] of batch.entries()) {
          const fates = [a[index]?.[1], b[batch.length - 1 - index]?.[1]];
          expect(fates).toEqual(
            stored.get(order.orderId) === contentHash ? ['stored', 'conflict'] : ['conflict', 'stored'],
          );
        }
      }
    });
  });
}
