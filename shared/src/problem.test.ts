import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { anOrderRequest } from '../testing/orders.ts';
import { orderRequestSchema } from './order.ts';
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
});
