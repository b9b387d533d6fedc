import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { anOrderRequest } from '../../testing/orders.ts';
import { orderRequestSchema } from '../order/order.ts';
import { createProblem, ProblemError, problemSchema, validationProblem } from './problem.ts';

function errorOf(schema: z.ZodType, value: unknown): z.ZodError {
  const { error } = schema.safeParse(value);
  if (!error) throw new Error('it was taken');
  return error;
}

describe('createProblem', () => {
  it('createProblem, of a known status, has its title and the kind as type', () => {
    expect(createProblem(404, 'not-found', 'nothing here')).toEqual({
      type: '/problems/not-found',
      title: 'Not found',
      status: 404,
      detail: 'nothing here',
    });
  });

  it('createProblem, of a status without a title, still has one', () => {
    expect(problemSchema.parse(createProblem(418, 'teapot')).title).not.toBe('');
  });
});

describe('ProblemError', () => {
  it('ProblemError, of a problem, says its detail, else its title', () => {
    expect(new ProblemError(createProblem(404, 'x', 'no order')).message).toBe('no order');
    expect(new ProblemError(createProblem(404, 'x')).message).toBe('Not found');
  });
});

describe('validationProblem', () => {
  it('validationProblem, of a wrong form, is a 400 with a pointer a field', () => {
    const problem = validationProblem(errorOf(orderRequestSchema, { ...anOrderRequest(), items: [{}] }));
    expect(problem).toMatchObject({ status: 400, type: '/problems/validation' });
    expect(problem.errors?.map(({ pointer }) => pointer)).toEqual(
      ['productId', 'name', 'quantity', 'unitPrice'].map((field) => `/items/0/${field}`),
    );
  });

  it('validationProblem, of a contradiction alone, is a 422', () => {
    const problem = validationProblem(errorOf(orderRequestSchema, anOrderRequest({ totalAmount: 1 })));
    expect(problem).toMatchObject({ status: 422, type: '/problems/inconsistent-order' });
  });

  it('validationProblem, of a contradiction and a wrong form, is a 400', () => {
    const order = anOrderRequest({ totalAmount: 1, customerId: '' });
    expect(validationProblem(errorOf(orderRequestSchema, order)).status).toBe(400);
  });

  it('validationProblem, of names with / and ~, escapes them in the pointer', () => {
    const schema = z.object({ 'a/b~c': z.string() });
    expect(validationProblem(errorOf(schema, { 'a/b~c': 1 }), '/query').errors?.[0]?.pointer).toBe(
      '/query/a~1b~0c',
    );
  });

  it('validationProblem, of a thousand mistakes, lists the first fifty', () => {
    const error = errorOf(z.array(z.string()), Array(1_000).fill(1));
    expect(validationProblem(error).errors).toHaveLength(50);
  });

  it.each<[string, object]>([
    ['an unknown key of a megabyte', { ['k'.repeat(1_000_000)]: 1 }],
    [
      'a thousand unknown keys',
      Object.fromEntries(Array.from({ length: 1_000 }, (_, index) => [`unknown-${index}`, 1])),
    ],
    ['a metadata key of a megabyte', { metadata: { ['k'.repeat(1_000_000)]: 'v' } }],
    ['a metadata value of a megabyte', { metadata: { key: 'v'.repeat(1_000_000) } }],
    ['a currency of a megabyte', { currency: 'K'.repeat(1_000_000) }],
    ['a time of a megabyte', { createdAt: '1'.repeat(1_000_000) }],
    ['an id of a megabyte', { orderId: '1'.repeat(1_000_000) }],
  ])('validationProblem, of %s, quotes at most 100 characters', (_what, fields) => {
    const [error] =
      validationProblem(errorOf(orderRequestSchema, { ...anOrderRequest(), ...fields })).errors ?? [];
    expect(`${error?.detail}`.length).toBeLessThanOrEqual(150);
    expect(`${error?.pointer}`.length).toBeLessThanOrEqual('/metadata/'.length + 100);
  });

  it('validationProblem, of text cut within a character, stays Unicode text', () => {
    const problem = validationProblem(
      errorOf(orderRequestSchema, { ...anOrderRequest(), [`${'k'.repeat(79)}😀${'k'.repeat(79)}`]: 1 }),
    );
    expect(problem.errors?.[0]?.detail).toBe(`Unrecognized key: "${'k'.repeat(79)}�…`);
  });
});
