import { z } from 'zod';

/** An error answer in the form of RFC 9457 (https://www.rfc-editor.org/rfc/rfc9457). */
export const problemSchema = z
  .object({
    type: z.string().describe('names the kind of problem'),
    title: z.string(),
    status: z.int(),
    detail: z.string().optional(),
    errors: z
      .array(z.object({ pointer: z.string().describe('JSON Pointer into the request'), detail: z.string() }))
      .optional(),
    traceId: z.string().optional(),
  })
  .meta({ id: 'Problem' });

export type Problem = z.infer<typeof problemSchema>;
export type FieldError = NonNullable<Problem['errors']>[number];

export const PROBLEM_CONTENT_TYPE = 'application/problem+json';

/** A problem among the answers of a route, for its schema. */
export const problemAnswer = {
  description: 'A problem (RFC 9457)',
  content: { [PROBLEM_CONTENT_TYPE]: { schema: problemSchema } },
};

/** The same, that says when to try again. */
export const retryAnswer = {
  ...problemAnswer,
  headers: { 'retry-after': { type: 'integer', minimum: 1, description: 'seconds' } },
};

/** An error that is an answer: thrown by a route, turned into problem+json by the server's error handler. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';
  readonly problem: Problem;
  readonly retryAfterSeconds: number | undefined;

  constructor(problem: Problem, options: ErrorOptions & { retryAfterSeconds?: number } = {}) {
    super(problem.detail ?? problem.title, options);
    this.problem = problem;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

const TITLES: Record<number, string> = {
  400: 'The request is not valid',
  404: 'Not found',
  405: 'Method not allowed',
  408: 'The request took too long',
  413: 'The request is too large',
  414: 'The URL is too long',
  415: 'The media type is not supported',
  417: 'The expectation cannot be met',
  422: 'The request contradicts itself',
  429: 'Too many requests',
  431: 'The request header is too large',
  500: 'Internal error',
  503: 'Temporarily unavailable',
};

/** The kinds of what the server itself refuses. */
export const KIND_OF_STATUS: Record<number, string> = {
  400: 'malformed',
  408: 'too-slow',
  413: 'too-large',
  414: 'url-too-long',
  415: 'media-type',
  431: 'header-too-large',
};

/** `kind` is a stable, URL-safe name of the problem: clients decide on it, never on the text. */
export function createProblem(status: number, kind: string, detail?: string, errors?: FieldError[]): Problem {
  return {
    type: `/problems/${kind}`,
    title: TITLES[status] ?? 'The request failed',
    status,
    ...(detail === undefined ? {} : { detail }),
    ...(errors === undefined ? {} : { errors }),
  };
}

const MAX_QUOTED = 100;

/** Text of the client's as a problem may repeat it: an answer is no longer for a longer request. */
export const quoted = (text: string): string =>
  text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED - 1).toWellFormed()}…` : text;

/**
 * What is wrong, field by field. Wrong form is a 400; an order that is well formed but contradicts itself, such as a
 * total that does not match, is a 422.
 */
export function validationProblem(error: z.core.$ZodError, prefix = ''): Problem {
  const errors = error.issues.slice(0, 50).map((issue) => ({
    pointer:
      prefix +
      issue.path.map((key) => `/${quoted(String(key)).replaceAll('~', '~0').replaceAll('/', '~1')}`).join(''),
    // Its message holds the names that the client chose; the others hold none of its text.
    detail: issue.code === 'unrecognized_keys' ? quoted(issue.message) : issue.message,
  }));
  const contradiction = error.issues.every(
    (issue) => issue.code === 'custom' && issue.params?.['contradiction'],
  );
  return createProblem(
    contradiction ? 422 : 400,
    contradiction ? 'inconsistent-order' : 'validation',
    undefined,
    errors,
  );
}
