import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { orderRequestSchema } from '@orders/shared/order/order.ts';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type OrderLine, readOrders, UnknownFormatError } from './open-orders.ts';

const SAMPLE = path.join(import.meta.dirname, 'cdnow-sample.txt');
let folder: string;

beforeAll(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'open-orders-'));
});
afterAll(() => rm(folder, { recursive: true }));

async function collect(lines: AsyncIterable<OrderLine>): Promise<OrderLine[]> {
  const all: OrderLine[] = [];
  for await (const line of lines) all.push(line);
  return all;
}

async function read(name: string, content: string, options?: { limit?: number }): Promise<OrderLine[]> {
  const file = path.join(folder, name);
  await writeFile(file, content);
  return collect(readOrders(file, options));
}

describe('readOrders', () => {
  it('reads every row of the sample as a valid order with an id of its own', async () => {
    const lines = await collect(readOrders(SAMPLE));
    const orders = lines.map((line) => orderRequestSchema.parse('order' in line ? line.order : undefined));
    expect(orders).toHaveLength(200);
    expect(new Set(orders.map(({ orderId }) => orderId)).size).toBe(200);
  });

  it('gives the same orders for Windows line ends, blank lines and no header', async () => {
    const row = ' 00001 19970101  1   11.77';
    const [bare] = await read('bare.txt', row);
    const [dressed] = await read(
      'dressed.txt',
      `\uFEFF customer_id  date number_of_cds  dollar_value\r\n\r\n${row}\r\n`,
    );
    expect(dressed).toEqual({ ...bare, line: 3 });
  });

  it('stops at the limit, which does not count the header', async () => {
    expect(await collect(readOrders(SAMPLE, { limit: 5 }))).toHaveLength(5);
    expect(await collect(readOrders(SAMPLE, { limit: 0 }))).toHaveLength(0);
  });

  it('names the line of a malformed row and goes on', async () => {
    const lines = await read('broken.txt', '1 19970101 1 1.00\n2 19970101 x 1.00\n3 19970101 1 1.00\n');
    expect(lines.map((line) => ('error' in line ? line.error.message.slice(0, 31) : line.line))).toEqual([
      1,
      'line 2: must be customer id, da',
      3,
    ]);
  });

  it('reads objects of NDJSON as they are, whatever the producer will say to them', async () => {
    const lines = await read('orders.ndjson', '{"customerId":"C-1"}\n\n{}\n');
    expect(lines).toEqual([
      { line: 1, order: { customerId: 'C-1' } },
      { line: 3, order: {} },
    ]);
  });

  it.each(['[1]', 'null', '"order"'])('reports the line %s of NDJSON as no order', async (text) => {
    const [line] = await read('orders.ndjson', `${text}\n`);
    expect(line).toMatchObject({ line: 1, error: { message: `line 1: no order, but ${text}` } });
  });

  it('reports a line that is not JSON as unreadable, by its number', async () => {
    const [, line] = await read('orders.ndjson', '{"a":1}\n{"a":\n');
    expect(line).toMatchObject({ line: 2, error: { code: 'UNREADABLE_LINE', line: 2 } });
  });

  it('refuses a file of another format, and reads an empty one as nothing', async () => {
    await expect(read('a.csv', 'id,name\n')).rejects.toThrow(UnknownFormatError);
    expect(await read('empty.txt', '')).toEqual([]);
  });

  it('throws what the file system says when there is no such file', async () => {
    await expect(collect(readOrders(path.join(folder, 'none')))).rejects.toThrow('ENOENT');
  });
});
