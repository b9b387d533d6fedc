import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { anOrderRequest } from '../../testing/orders.ts';
import { orderRequestSchema } from '../order/order.ts';
import { createProblem, ProblemError, problemAnswers, refusedRequest, validationError } from './problem.ts';

function errorOf(schema: z.ZodType, value: unknown): z.ZodError {
  const { error } = schema.safeParse(value);
  if (!error) throw new Error('it was taken');
  return error;
}

const validationProblem = (...args: Parameters<typeof validationError>) => validationError(...args).problem;

describe('createProblem', () => {
  it('createProblem, given a known status, has its title and the kind as type', () => {
    expect(createProblem('not-found', 'nothing here')).toEqual({
      type: '/problems/not-found',
      title: 'Not found',
      status: 404,
      detail: 'nothing here',
    });
  });
});

describe('ProblemError', () => {
  it('ProblemError, given a problem, says its detail, else its title', () => {
    expect(new ProblemError('not-found', 'no order').message).toBe('no order');
    expect(new ProblemError('not-found').message).toBe('Not found');
  });
});

describe('refusedRequest', () => {
  it('refusedRequest, with a status that has a kind, answers that kind', () => {
    expect(refusedRequest(431)).toMatchObject({ status: 431, type: '/problems/header-too-large' });
  });

  it('refusedRequest, with any other status, keeps the status', () => {
    expect(refusedRequest(416, 'no such range')).toEqual({
      type: '/problems/client-error',
      title: 'The request failed',
      status: 416,
      detail: 'no such range',
    });
  });
});

describe('problemAnswers', () => {
  it('problemAnswers, with kinds of two statuses, has one answer per status that explains each kind', () => {
    const answers = problemAnswers('busy', 'not-found', 'unknown-metric');
    expect(Object.keys(answers)).toEqual(['404', '429']);
    expect(answers[404].description).toMatch(/^- `not-found`: .+\.\n- `unknown-metric`: .+\.$/);
  });

  it('problemAnswers, given a status that passes, shows when to send the request again', () => {
    expect(problemAnswers('busy')[429]).toHaveProperty('headers.retry-after');
    expect(problemAnswers('not-found')[404]).not.toHaveProperty('headers');
  });
});

describe('validationError', () => {
  it('validationError, given a wrong form, is a 400 with one pointer per field', () => {
    const problem = validationProblem(errorOf(orderRequestSchema, { ...anOrderRequest(), items: [{}] }));
    expect(problem).toMatchObject({ status: 400, type: '/problems/validation' });
    expect(problem.errors?.map(({ pointer }) => pointer)).toEqual(
      ['productId', 'name', 'quantity', 'unitPrice'].map((field) => `/items/0/${field}`),
    );
  });

  it('validationError, given a contradiction alone, is a 422', () => {
    const problem = validationProblem(errorOf(orderRequestSchema, anOrderRequest({ totalAmount: 1 })));
    expect(problem).toMatchObject({ status: 422, type: '/problems/inconsistent-order' });
  });

  it('validationError, given a contradiction and a wrong form, is a 400', () => {
    const order = anOrderRequest({ totalAmount: 1, customerId: '' });
    expect(validationProblem(errorOf(orderRequestSchema, order)).status).toBe(400);
  });

  it('validationError, of names with / and ~, escapes them in the pointer', () => {
    const schema = z.object({ 'a/b~c': z.string() });
    expect(validationProblem(errorOf(schema, { 'a/b~c': 1 }), '/query').errors?.[0]?.pointer).toBe(
      '/query/a~1b~0c',
    );
  });

  it('validationError, given a thousand mistakes, lists the first fifty', () => {
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
  ])('validationError, of %s, quotes at most 100 characters', (_what, fields) => {
    const [error] =
      validationProblem(errorOf(orderRequestSchema, { ...anOrderRequest(), ...fields })).errors ?? [];
    expect(`${error?.detail}`.length).toBeLessThanOrEqual(150);
    expect(`${error?.pointer}`.length).toBeLessThanOrEqual('/metadata/'.length + 100);
  });

  it('validationError, of text cut within a character, stays Unicode text', () => {
    const problem = validationProblem(
      errorOf(orderRequestSchema, { ...anOrderRequest(), [`${'k'.repeat(79)}😀${'k'.repeat(79)}`]: 1 }),
    );
    expect(problem.errors?.[0]?.detail).toBe(`Unrecognized key: "${'k'.repeat(79)}�…`);
  });
});
