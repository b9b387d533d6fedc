import type { FastifyInstance, FastifyReply, FastifyRequest, FastifySchema, RouteOptions } from 'fastify';
import type { Authenticator } from '../auth/authenticator.ts';
import { ANYONE, type Client, mayDo, type Scope, widest } from '../auth/client.ts';
import { UUID } from '../runtime/uuid.ts';
import { ProblemError, problemAnswers } from './problem.ts';
import type { ChargeFailedLogin } from './rate-limits.ts';

/** Who may use a route: everybody, or clients with a scope. */
export type Access = 'public' | Scope;

declare module 'fastify' {
  interface FastifyContextConfig {
    access?: Access;
  }
  interface FastifyRequest {
    /** Who sends it. */
    client: Client;
  }
  interface FastifyInstance {
    /** Who sends a request to a public route; undefined for one who does not say so, or who is not believed. */
    identify: (request: FastifyRequest) => Promise<Client | undefined>;
  }
}

/**
 * Lets a request through only if its sender has the scope that the route asks for: 401 for an unknown sender, 403 for one
 * without the scope. Before the body is read. The server does not start with a route that does not say who may use it.
 * Each refusal, and each use of a scope of {@link AUDITED}, is a line with who, what and the result, and nothing of an order.
 */
export function restrictAccess(
  app: FastifyInstance,
  {
    authenticator,
    chargeFailedLogin,
  }: { authenticator: Authenticator; chargeFailedLogin: ChargeFailedLogin },
): void {
  const routes: RouteOptions[] = [];
  app.decorateRequest('client', null as unknown as Client);
  app.decorate('identify', async (request) => {
    const credentials = credentialsOf(request);
    if (credentials.apiKey === undefined && credentials.authorization === undefined) return undefined;
    // A public route answers also while the keys of an issuer cannot be had.
    return await Promise.resolve(authenticator.authenticate(credentials)).catch(() => undefined);
  });
  app.addHook('onRoute', (route) => {
    if (route.method !== 'OPTIONS') routes.push(route);
    const { access = 'public' } = route.config ?? {};
    if (isAsked(authenticator) && access !== 'public' && AUDITED.includes(widest(access)))
      route.onResponse = [route.onResponse ?? [], onAnswered].flat();
  });
  app.addHook('onClose', async () => authenticator.close());
  app.addHook('onReady', (done) => {
    const open = routes.find(({ config }) => config?.access === undefined);
    done(open && new Error(`${open.method} ${open.url} does not say who may use it: config.access`));
  });
  app.addHook('onRequest', (request, reply, done) => {
    const { access } = request.routeOptions.config;
    if (access === undefined || access === 'public') {
      request.client = ANYONE;
      return done();
    }
    // What only some may see is for no cache.
    reply.header('cache-control', 'no-store');
    const decide = (client: Client | undefined) => {
      if (!client || !mayDo(client, access)) return done(refuse(reply, client, access));
      request.client = client;
      return done();
    };
    const client = authenticator.authenticate(credentialsOf(request));
    if (!(client instanceof Promise)) return decide(client);
    client.then(decide, (cause) => done(new ProblemError('issuer-unavailable', undefined, { cause })));
  });

  /** Says nothing of what is wrong with a credential: that would help to guess one. */
  function refuse(reply: FastifyReply, client: Client | undefined, access: Scope): ProblemError {
    const tooMany = client ? undefined : chargeFailedLogin(reply.request);
    // Counted, and not logged: a flood of them must not fill the log.
    if (tooMany) return tooMany;
    writeDown('refused', reply.request, { client, scope: access, status: client ? 403 : 401 });
    if (client) return new ProblemError('forbidden', `this needs the scope ${access}`);
    reply.header('www-authenticate', authenticator.challenge);
    return new ProblemError('unauthorized');
  }

  function onAnswered(request: FastifyRequest, { statusCode }: FastifyReply, done: () => void): void {
    const { client, routeOptions } = request;
    const scope = widest(routeOptions.config.access as Scope);
    // Of a refused request there is a line already; whoever looks at its own orders needs none.
    if (client?.scopes.has(scope)) writeDown('granted', request, { client, scope, status: statusCode });
    done();
  }

  function writeDown(
    audit: 'granted' | 'refused',
    { method, routeOptions, params, trace }: FastifyRequest,
    { client, scope, status }: { client: Client | undefined; scope: Scope; status: number },
  ): void {
    const { orderId } = (params ?? {}) as { orderId?: string };
    authenticator.audit.info(
      {
        audit,
        ...(client?.id === undefined ? {} : { client: client.id }),
        scope,
        method,
        route: routeOptions.url,
        // Anything else that stands there is a client's own text.
        ...(orderId !== undefined && UUID.test(orderId) ? { orderId } : {}),
        status,
        traceId: trace.traceId,
      },
      `access ${audit}`,
    );
  }
}

const isAsked = ({ methods }: Authenticator) => methods.some((method) => method !== 'none');

/** Scopes that reach beyond a client's own orders. */
const AUDITED: readonly Scope[] = ['orders:read:all', 'operations', 'operations:write'];

function credentialsOf({ headers }: FastifyRequest) {
  const apiKey = headers['x-api-key'];
  return { apiKey: Array.isArray(apiKey) ? apiKey.join() : apiKey, authorization: headers.authorization };
}

const SCHEMES = {
  'api-key': { apiKey: { type: 'apiKey', in: 'header', name: 'x-api-key' } },
  jwt: { token: { type: 'http', scheme: 'bearer', bearerFormat: 'JWT' } },
  none: {},
} as const;

/** How the API's description shows who may use a route: the schemes, and a route's schema with what belongs to it. */
export function describeAccess(authenticator: Authenticator) {
  const { methods } = authenticator;
  const security = methods.map((method) =>
    Object.fromEntries(Object.keys(SCHEMES[method]).map((name) => [name, []])),
  );
  return {
    components: { securitySchemes: Object.assign({}, ...methods.map((method) => SCHEMES[method])) },
    withAccess: <T extends { schema: FastifySchema; route: RouteOptions }>(shown: T): T => {
      const access = shown.route.config?.access ?? 'public';
      if (!isAsked(authenticator) || access === 'public') return shown;
      const response = { ...(shown.schema?.response ?? {}), ...problemAnswers('unauthorized', 'forbidden') };
      return { ...shown, schema: { ...shown.schema, security, response } };
    },
  };
}
