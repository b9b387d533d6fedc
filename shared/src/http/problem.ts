import { z } from 'zod';

/** An error answer as defined by RFC 9457 (https://www.rfc-editor.org/rfc/rfc9457). */
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

/** One per status: some statuses have many kinds. */
const TITLES = {
  400: 'The request is not valid',
  401: 'The sender is unknown',
  403: 'The sender may not do this',
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

type Status = keyof typeof TITLES;

/** After how long to send a request again that was refused only for now. */
const RETRY_AFTER_SECONDS: Partial<Record<Status, number>> = { 429: 1, 503: 5 };

/**
 * Every problem that a service answers with, by kind: a stable, URL-safe name. Clients decide on it, never on the text.
 * The sentences are shown on the API's page.
 */
const PROBLEMS = {
  malformed: [400, 'The request is not valid HTTP, or its body is not valid JSON.'],
  validation: [400, 'Fields are missing, unknown or wrong; `errors` points at each.'],
  'no-host': [400, 'An HTTP/1.1 request has no `Host` header.'],
  'two-hosts': [400, 'The request has more than one `Host` header.'],
  'not-utf-8': [400, 'The body is not UTF-8.'],
  'too-deep': [400, 'The JSON is nested too deeply.'],
  'too-many-objects': [400, 'The JSON has more small objects or arrays than any order.'],
  'incomplete-body': [400, 'The connection ended before the body did.'],
  'idempotency-key-malformed': [400, 'The `Idempotency-Key` is not 1 to 255 visible ASCII characters.'],
  'two-identities': [400, 'The request has an `Idempotency-Key`, and its order an `orderId`.'],
  'idempotency-key-on-batch': [400, 'A batch has an `Idempotency-Key`; use an `orderId` per order.'],
  'repeated-order-id': [400, 'Two orders of the batch have the same `orderId`.'],
  unauthorized: [401, 'The request has no valid API key or token; see `WWW-Authenticate`.'],
  forbidden: [403, 'The sender lacks the scope that `detail` names.'],
  'not-found': [404, 'There is nothing at this path.'],
  'order-not-found': [404, 'The order is neither stored nor rejected: unknown, or still on its way.'],
  'on-management-port': [404, 'This is on another port, which `detail` names.'],
  'unknown-metric': [404, 'There is no metric of this name.'],
  'method-not-allowed': [405, 'The path exists, but not with this method; see `Allow`.'],
  'too-slow': [408, 'The request did not arrive in time.'],
  'too-large': [413, 'The body, or one order of a batch, has too many bytes.'],
  'order-too-large': [413, 'The order does not fit into a message, even compressed.'],
  'url-too-long': [414, 'A part of the path is too long.'],
  'media-type': [415, 'The body is not `application/json`.'],
  'content-encoding': [415, 'The body is compressed.'],
  charset: [415, 'The `Content-Type` names a character set other than UTF-8.'],
  expectation: [417, 'The `Expect` header asks for something other than `100-continue`.'],
  'inconsistent-order': [422, 'The order contradicts itself, for example its total and its items.'],
  'order-not-sendable': [422, 'The queue refuses this order, and always will.'],
  busy: [429, 'The service holds as many bytes as it may.'],
  'buffer-full': [429, 'As many orders wait for the queue as may.'],
  'rate-limited': [429, 'The client has used up what it may send for now.'],
  'header-too-large': [431, 'The headers have too many bytes.'],
  internal: [500, 'The service failed; its log has the error under the `traceId`.'],
  'too-many-connections': [503, 'Too many connections are open.'],
  'issuer-unavailable': [503, "The keys of the token's issuer cannot be had."],
  'queue-unavailable': [503, 'The queue did not confirm the order. Send it again with the same id or key.'],
  'store-unavailable': [503, 'The database does not answer.'],
} as const satisfies Record<string, [Status, string]>;

export type ProblemKind = keyof typeof PROBLEMS;

/** Kinds of the requests that the server itself refuses. */
const KIND_OF_STATUS: Record<number, ProblemKind> = {
  400: 'malformed',
  408: 'too-slow',
  413: 'too-large',
  414: 'url-too-long',
  415: 'media-type',
  431: 'header-too-large',
};

/** What can be wrong with any request. */
export const OF_REQUEST = ['no-host', 'two-hosts', 'busy', 'rate-limited', 'too-many-connections'] as const;
/** What can be wrong with a request that has a body. */
export const OF_BODY = [
  ...['malformed', 'validation', 'not-utf-8', 'too-deep', 'too-many-objects', 'incomplete-body'],
  ...['too-large', 'media-type', 'content-encoding', 'charset'],
] as const;

const RETRY_AFTER = { 'retry-after': { type: 'integer', minimum: 1, description: 'seconds' } };

/** The error answers of a route that has these problems, for its schema: one per status, with each kind explained. */
export function problemAnswers(...kinds: ProblemKind[]) {
  const answers = [...Map.groupBy(kinds, (kind) => PROBLEMS[kind][0])].map(([status, sameStatus]) => ({
    [status]: {
      description: sameStatus.map((kind) => `- \`${kind}\`: ${PROBLEMS[kind][1]}`).join('\n'),
      content: {
        [PROBLEM_CONTENT_TYPE]: {
          schema: problemSchema,
          examples: Object.fromEntries(sameStatus.map((kind) => [kind, { value: createProblem(kind) }])),
        },
      },
      ...(RETRY_AFTER_SECONDS[status] ? { headers: RETRY_AFTER } : {}),
    },
  }));
  return Object.assign({}, ...answers) as Record<Status, (typeof answers)[number][number]>;
}

/** An error that is an answer: thrown by a route, turned into problem+json by the server's error handler. */
export class ProblemError extends Error {
  override readonly name = 'ProblemError';
  readonly kind: ProblemKind;
  readonly problem: Problem;
  readonly retryAfterSeconds: number | undefined;

  /** @param options `retryAfterSeconds` where more is known than what goes with the status */
  constructor(
    kind: ProblemKind,
    detail?: string,
    options: ErrorOptions & { errors?: FieldError[]; retryAfterSeconds?: number } = {},
  ) {
    const problem = createProblem(kind, detail, options.errors);
    super(detail ?? problem.title, options);
    this.kind = kind;
    this.problem = problem;
    this.retryAfterSeconds = options.retryAfterSeconds ?? RETRY_AFTER_SECONDS[problem.status as Status];
  }
}

export function createProblem(kind: ProblemKind, detail?: string, errors?: FieldError[]): Problem {
  const [status] = PROBLEMS[kind];
  return {
    type: `/problems/${kind}`,
    title: TITLES[status],
    status,
    ...(detail === undefined ? {} : { detail }),
    ...(errors === undefined ? {} : { errors }),
  };
}

/** The problem of a request that the server itself refuses with a 4xx. */
export function refusedRequest(status: number, detail?: string): Problem {
  const kind = KIND_OF_STATUS[status];
  if (kind) return createProblem(kind, detail);
  return {
    ...createProblem('malformed', detail),
    type: '/problems/client-error',
    title: 'The request failed',
    status,
  };
}

const MAX_QUOTED = 100;

/** Shortens the client's own text, so that a longer request does not get a longer answer. */
export const quoted = (text: string): string =>
  text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED - 1).toWellFormed()}…` : text;

/**
 * Lists what is wrong, field by field. A malformed order is a 400; one that is well formed but contradicts itself, such as
 * a total that does not match, is a 422.
 */
export function validationError(error: z.core.$ZodError, prefix = ''): ProblemError {
  const errors = error.issues.slice(0, 50).map((issue) => ({
    pointer:
      prefix +
      issue.path.map((key) => `/${quoted(String(key)).replaceAll('~', '~0').replaceAll('/', '~1')}`).join(''),
    // This message holds names that the client chose; the others hold none of the client's text.
    detail: issue.code === 'unrecognized_keys' ? quoted(issue.message) : issue.message,
  }));
  const contradiction = error.issues.every(
    (issue) => issue.code === 'custom' && issue.params?.['contradiction'],
  );
  return new ProblemError(contradiction ? 'inconsistent-order' : 'validation', undefined, { errors });
}
