import type { FastifyHelmetOptions } from '@fastify/helmet';
import swagger from '@fastify/swagger';
import swaggerUi from '@fastify/swagger-ui';
import fastify, {
  type FastifyBaseLogger,
  type FastifyError,
  type FastifyInstance,
  type FastifyPluginAsync,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchemaCompiler,
  LogController,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from 'fastify';
import {
  jsonSchemaTransform,
  jsonSchemaTransformObject,
  type ZodTypeProvider,
} from 'fastify-type-provider-zod';
import type { z } from 'zod';
import type { Authenticator } from '../auth/authenticator.ts';
import type { Logger } from '../runtime/logger.ts';
import type { CommonMetrics } from '../runtime/metrics.ts';
import { StartupError } from '../runtime/startup-error.ts';
import { continueTrace, type TraceContext } from '../runtime/trace-context.ts';
import { describeAccess, restrictAccess } from './access.ts';
import { type ActuatorOptions, actuator, prometheus } from './actuator.ts';
import { limitBytesInWork } from './admission.ts';
import { readJsonBodies } from './body.ts';
import {
  answerClientError,
  type ConnectionOptions,
  manageConnections,
  type RequestsUnderWay,
} from './connections.ts';
import {
  createProblem,
  PROBLEM_CONTENT_TYPE,
  type Problem,
  ProblemError,
  type ProblemKind,
  quoted,
  refusedRequest,
  validationError,
} from './problem.ts';
import { limitFailedLogins, limitRates, type RateLimitsConfig } from './rate-limits.ts';

declare module 'fastify' {
  interface FastifyRequest {
    trace: TraceContext;
  }
}

export type HttpServer = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  ZodTypeProvider
>;

export type HttpServerOptions = ActuatorOptions &
  ConnectionOptions & {
    logger: Logger;
    /** What the service is for: the first words of the API's page. */
    introduction: string;
    metrics: Pick<CommonMetrics, 'httpRequestDuration' | 'rateLimited'>;
    bodyLimitBytes: number;
    /** Limit of the bodies and large answers held at once; beyond it a request is answered 429. */
    maxBytesInWork: number;
    /** Web pages from elsewhere that may call this service (https://fetch.spec.whatwg.org/#http-cors-protocol). */
    corsAllowedOrigins: readonly string[];
    authenticator: Authenticator;
    rateLimits: RateLimitsConfig;
    /** Addresses of proxies whose word on where a request comes from is believed (`X-Forwarded-For`). */
    trustedProxies: readonly string[];
    /** Whether /docs and /openapi.json are there. */
    docs: boolean;
    /** Routes by which operators act on the service: on the management port where there is one. */
    operations?: (app: HttpServer) => Promise<void>;
  };

const REQUEST_TIMEOUT_MS = 30_000;
/** Limit for receiving all headers; also ends a connection that sends nothing. For bodies Node applies the longer limit. */
const HEADERS_TIMEOUT_MS = 15_000;
/** How often Node looks for requests over their limit. */
const TIMEOUT_CHECK_MS = 5_000;
/** Longer than the idle time of common load balancers (60 s), so that they close an idle connection, not we. */
const KEEP_ALIVE_TIMEOUT_MS = 72_000;

/** How long a browser may cache the answer to a preflight request. */
const CORS_MAX_AGE_SECONDS = 600;

const METHODS = ['GET', 'HEAD', 'POST'] as const;
const JSON_IN_OTHER_LETTERS = /;\s*charset\s*=(?!\s*"?utf-?8"?\s*(?:;|$))/i;

/** Swagger's page needs styles in its elements, and nothing from elsewhere. No page may frame it. */
const HEADERS_OF_PAGES: FastifyHelmetOptions = {
  contentSecurityPolicy: {
    directives: {
      fontSrc: ["'self'", 'data:'],
      frameAncestors: ["'none'"],
      styleSrc: ["'self'", "'unsafe-inline'"],
      // For where TLS ends: whoever opens the page without TLS gets it without.
      upgradeInsecureRequests: null,
    },
  },
  frameguard: { action: 'deny' },
  strictTransportSecurity: false,
};

const ABOUT_ERRORS = `**Errors** are \`${PROBLEM_CONTENT_TYPE}\` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)).
Each operation lists the kinds it can answer with; the kind is the last part of \`type\`. Base decisions on the kind,
never on the text. Most 4xx mean that the request must change. 429 and 503 pass: send the same request again after
\`Retry-After\` seconds. \`traceId\` identifies the request in the logs.`;

/** The HTTP server of both services: limits, problem+json for every error, trace context, metrics, API docs, actuator. */
export async function createHttpServer(options: HttpServerOptions): Promise<HttpServer> {
  const app = await createServer(options);
  if (options.docs) await showDocs(app, options);
  await app.register(actuator, options);
  if (options.managementPort === undefined && options.operations)
    await app.register(options.operations as FastifyPluginAsync);
  return app;
}

async function createServer(options: HttpServerOptions): Promise<HttpServer> {
  const underWay: RequestsUnderWay = new Map();
  const app = fastify({
    loggerInstance: options.logger,
    logController: new LogController({ disableRequestLogging: true }),
    // A child logger per request would cost more than the order itself. Log lines about a request name its trace.
    childLoggerFactory: (logger) => logger,
    bodyLimit: options.bodyLimitBytes,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    trustProxy: [...options.trustedProxies],
    // At stop, close idle connections and finish the others: an accepted request gets its answer.
    forceCloseConnections: 'idle',
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => sendError(error, request, reply),
    clientErrorHandler: (error, socket) => answerClientError(error, socket, underWay),
    // Checked below instead: Node's own answer is not problem+json.
    http: {
      requireHostHeader: false,
      // Otherwise Node silently keeps the first of two hosts.
      joinDuplicateHeaders: true,
      headersTimeout: HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: TIMEOUT_CHECK_MS,
    },
    routerOptions: { maxParamLength: 256 },
    // Set here and not later: the defaults (Ajv and others, 3 MB of memory) are then never loaded.
    schemaController: {
      compilersFactory: { buildValidator: () => compileValidator as never, buildSerializer },
    },
  }).withTypeProvider<ZodTypeProvider>() as unknown as HttpServer;
  readJsonBodies(app);
  app.setErrorHandler(sendError);
  const notFound = (request: FastifyRequest, reply: FastifyReply) => {
    const path = request.url.slice(0, 200).split('?')[0] ?? '';
    const allowed = METHODS.filter((method) => app.findRoute({ method, url: path }));
    if (allowed.length === 0) {
      return sendProblem(request, reply, createProblem('not-found', `nothing at ${request.method} ${path}`));
    }
    reply.header('allow', allowed.join(', '));
    sendProblem(request, reply, createProblem('method-not-allowed', `${path} takes ${allowed.join(', ')}`));
  };
  app.setNotFoundHandler(notFound);
  app.decorateRequest('trace');
  if (options.corsAllowedOrigins.length > 0) {
    // Loaded only where it is needed.
    await app.register(import('@fastify/cors'), {
      origin: [...options.corsAllowedOrigins],
      methods: [...METHODS],
      allowedHeaders: ['authorization', 'content-type', 'idempotency-key', 'traceparent', 'x-api-key'],
      exposedHeaders: ['location', 'ratelimit', 'ratelimit-policy', 'retry-after', 'www-authenticate'],
      maxAge: CORS_MAX_AGE_SECONDS,
    });
  }
  app.addHook('onRequest', (request, reply, done) => {
    request.trace = continueTrace(request.headers['traceparent']);
    // Nothing here is a page but the docs, and no browser should take an answer for one.
    reply.header('x-content-type-options', 'nosniff');
    const { host, 'content-encoding': encoding, 'content-type': type } = request.headers;
    const refuse = (kind: ProblemKind, detail: string) => done(new ProblemError(kind, detail));
    // RFC 9112 §3.2
    if (host === undefined && request.raw.httpVersion === '1.1')
      return refuse('no-host', 'an HTTP/1.1 request must have a Host header');
    if (host?.includes(',')) return refuse('two-hosts', 'a request must have only one Host header');
    // Before the body is checked: nobody would read it.
    if (request.is404) return notFound(request, reply);
    if (encoding !== undefined && encoding.toLowerCase() !== 'identity')
      return refuse('content-encoding', 'the body must not be compressed');
    if (type !== undefined && type !== 'application/json' && JSON_IN_OTHER_LETTERS.test(type))
      return refuse('charset', 'the body must be UTF-8');
    return done();
  });
  manageConnections(app, { ...options, underWay });
  restrictAccess(app, { ...options, chargeFailedLogin: limitFailedLogins(options) });
  limitRates(app, options);
  limitBytesInWork(app, options.maxBytesInWork);
  app.addHook('onResponse', (request, reply, done) => {
    const labels = {
      method: request.method,
      route: request.routeOptions.url ?? 'unknown',
      status: reply.statusCode,
    };
    options.metrics.httpRequestDuration.observe(labels, reply.elapsedTime / 1_000);
    if (options.logger.isLevelEnabled('debug')) {
      const { traceId } = request.trace ?? {};
      request.log.debug({ ...labels, traceId, durationMs: reply.elapsedTime }, 'answered');
    }
    done();
  });
  app.server.on('checkExpectation', (_request, response) => {
    const body = JSON.stringify(createProblem('expectation', 'only 100-continue is supported'));
    response.writeHead(417, {
      'content-type': PROBLEM_CONTENT_TYPE,
      'content-length': Buffer.byteLength(body),
      connection: 'close',
    });
    response.end(body);
  });
  return app;
}

async function showDocs(
  app: HttpServer,
  { info, introduction, authenticator }: HttpServerOptions,
): Promise<void> {
  const { components, withAccess } = describeAccess(authenticator);
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: info.name, version: info.version, description: `${introduction}\n\n${ABOUT_ERRORS}` },
      // In the order in which the page shows them.
      tags: [
        { name: 'orders' },
        { name: 'operations', description: 'For platforms and operators: probes, metrics, build' },
      ],
      components,
    },
    transform: (route) => showRoute(withAccess(route)),
    transformObject: jsonSchemaTransformObject,
  });
  await app.register(async (docs) => {
    await docs.register(import('@fastify/helmet'), HEADERS_OF_PAGES);
    docs.addHook('onRoute', (route) => {
      route.config = { ...route.config, access: 'public' };
    });
    // Without a validator: the page would send the address of this service to a third party.
    await docs.register(swaggerUi, { routePrefix: '/docs', uiConfig: { validatorUrl: null } });
  });
  app.get('/openapi.json', { config: { access: 'public' }, schema: { hide: true } }, async () =>
    app.swagger(),
  );
}

const compileValidator: FastifySchemaCompiler<z.ZodType> =
  ({ schema, httpPart }) =>
  (input) => {
    const parsed = schema.safeParse(input);
    if (parsed.success) return { value: parsed.data };
    return { error: validationError(parsed.error, httpPart === 'body' ? '' : `/${httpPart}`) };
  };

/** TypeScript already holds answers to their schema, so nothing is checked again at run time. */
const buildSerializer = () => () => JSON.stringify;

type Answers = Record<string, { headers?: unknown; content?: Record<string, { examples?: unknown }> }>;

/** The library's description of a route, plus the headers and examples of answers, which it leaves out. */
const showRoute: typeof jsonSchemaTransform = (route) => {
  const shown = jsonSchemaTransform(route);
  const given = (route.schema?.response ?? {}) as Answers;
  const { response: answers = {} } = (shown.schema ?? {}) as { response?: Answers };
  for (const [status, answer] of Object.entries(answers)) {
    const { headers, content = {} } = given[status] ?? {};
    if (headers) answer.headers = headers;
    for (const [type, { examples }] of Object.entries(content))
      if (examples) Object.assign(answer.content?.[type] ?? {}, { examples });
  }
  return shown;
};

export type OpenPorts = {
  url: string;
  /** Undefined if Prometheus's pages are on the same port. */
  managementUrl: string | undefined;
  /** Answers every accepted request. The metrics of that can be read until it is done. */
  close: () => Promise<void>;
};

/**
 * Opens the port of the service and, with `managementPort`, one more, with Prometheus's pages and `operations` alone. For
 * those pages it asks nobody who they are: a scraper has no key, so the network has to keep others away.
 * @throws {StartupError} when a port is taken or not allowed
 */
export async function openPorts(
  app: HttpServer,
  options: HttpServerOptions,
  { host, ...own }: { host: string; port: number; variable: string },
): Promise<OpenPorts> {
  const { managementPort: port } = options;
  const management =
    port === undefined ? undefined : await createServer({ ...options, corsAllowedOrigins: [] });
  const close = async () => {
    await app.close();
    await management?.close();
  };
  try {
    if (management && port !== undefined) {
      await management.register(prometheus, options);
      if (options.operations) await management.register(options.operations as FastifyPluginAsync);
      await listen(management, { host, port, variable: 'MANAGEMENT_PORT' });
    }
    await listen(app, { host, ...own });
  } catch (error) {
    await close();
    throw error;
  }
  return { url: app.listeningOrigin, managementUrl: management?.listeningOrigin, close };
}

async function listen(
  app: HttpServer,
  { host, port, variable }: { host: string; port: number; variable: string },
): Promise<void> {
  try {
    await app.listen({ host, port, listenTextResolver: () => `listening` });
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown';
    const reason = code === 'EADDRINUSE' ? 'is taken by another process' : `cannot be listened on (${code})`;
    throw new StartupError(`port ${port} on ${host} ${reason}: set ${variable} or HOST`, { cause: error });
  }
}

function sendProblem(request: FastifyRequest, reply: FastifyReply, problem: Problem): void {
  const traceId = request.trace?.traceId;
  // Serialised here, because the body of an error does not follow the route's response schema.
  reply
    .code(problem.status)
    .header('content-type', PROBLEM_CONTENT_TYPE)
    .serializer((payload: unknown) => JSON.stringify(payload))
    .send(traceId ? { ...problem, traceId } : problem);
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  if (error instanceof ProblemError && error.retryAfterSeconds !== undefined) {
    reply.header('retry-after', String(error.retryAfterSeconds));
  }
  const problem = toProblem(error);
  if (problem.status >= 500 && !(error instanceof ProblemError)) {
    request.log.error({ err: error, traceId: request.trace?.traceId }, 'request failed');
  }
  sendProblem(request, reply, problem);
}

function toProblem(error: unknown): Problem {
  if (error instanceof ProblemError) return error.problem;
  const { statusCode = 500, message, code } = error as FastifyError;
  if (statusCode >= 400 && statusCode < 500)
    return refusedRequest(statusCode, code?.startsWith('FST_') ? quoted(message) : 'not valid JSON');
  return createProblem('internal');
}
