import { isIPv6 } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { CommonConfig } from '../runtime/config.ts';
import type { CommonMetrics } from '../runtime/metrics.ts';
import { ProblemError } from './problem.ts';
import { TokenBuckets } from './token-buckets.ts';

declare module 'fastify' {
  interface FastifyInstance {
    /**
     * For a route whose request holds many orders: takes so many from its client's limit, instead of one.
     * @throws {ProblemError} rate-limited
     */
    chargeOrders: (
      request: Pick<FastifyRequest, 'client' | 'ip'>,
      reply: Pick<FastifyReply, 'header'>,
      orders: number,
    ) => void;
  }
}

export type RateLimitsConfig = Pick<
  CommonConfig,
  'CLIENT_ORDERS_PER_SECOND' | 'CLIENT_BURST_ORDERS' | 'CLIENT_BYTES_PER_MINUTE' | 'FAILED_LOGINS_PER_MINUTE'
>;
type RateLimitMetrics = Pick<CommonMetrics, 'rateLimited'>;

const SECONDS_PER_MINUTE = 60;
const FAILED_LOGINS = 'failed-logins';

type Limit = { name: 'orders' | 'bytes'; buckets: TokenBuckets; policy: string };

function limitOf(name: Limit['name'], capacity: number, perSecond: number): Limit {
  const windowSeconds = Math.ceil(capacity / perSecond);
  return {
    name,
    buckets: new TokenBuckets({ capacity, perSecond }),
    policy: `"${name}";q=${capacity};w=${windowSeconds}`,
  };
}

/**
 * Holds each client to its orders per second and bytes per minute, in this process; without a client's name, its address
 * counts. Whatever is not public costs one order and the declared length of its body, or without one the most that its
 * route takes; what is refused costs nothing. Answers have the headers of draft-ietf-httpapi-ratelimit-headers.
 */
export function limitRates(
  app: FastifyInstance,
  { rateLimits: config, metrics }: { rateLimits: RateLimitsConfig; metrics: RateLimitMetrics },
): void {
  const {
    CLIENT_ORDERS_PER_SECOND: ordersPerSecond,
    CLIENT_BURST_ORDERS: burst = ordersPerSecond,
    CLIENT_BYTES_PER_MINUTE: bytesPerMinute,
  } = config;
  const orders =
    ordersPerSecond && burst !== undefined ? limitOf('orders', burst, ordersPerSecond) : undefined;
  const bytes = bytesPerMinute
    ? limitOf('bytes', bytesPerMinute, bytesPerMinute / SECONDS_PER_MINUTE)
    : undefined;
  // So that a rate sees the first one.
  for (const limit of ['orders', 'bytes'] satisfies Limit['name'][]) metrics.rateLimited.inc({ limit }, 0);
  const limits = [orders, bytes].filter((limit) => limit !== undefined);
  const policies = limits.map(({ policy }) => policy).join(', ');

  app.decorate('chargeOrders', (request, reply, count) => {
    if (!orders) return;
    const key = keyOf(request);
    // The one that it was charged before its body was read.
    orders.buckets.take(key, -1);
    const refusal = charge(key, reply, { orders: count, bytes: 0 });
    if (refusal) throw refusal;
  });
  if (limits.length === 0) return;

  app.addHook('onRequest', (request, reply, done) => {
    const { access } = request.routeOptions.config;
    if (access === undefined || access === 'public') return done();
    done(charge(keyOf(request), reply, { orders: 1, bytes: bytesOf(request) }));
  });

  function charge(
    key: string,
    reply: Pick<FastifyReply, 'header'>,
    cost: Record<Limit['name'], number>,
  ): ProblemError | undefined {
    const short = limits.find(({ name, buckets }) => buckets.waitMs(key, cost[name]) > 0);
    if (!short) for (const { name, buckets } of limits) buckets.take(key, cost[name]);
    reply.header('ratelimit-policy', policies);
    reply.header('ratelimit', limits.map((limit) => remaining(limit, key)).join(', '));
    if (!short) return undefined;
    metrics.rateLimited.inc({ limit: short.name });
    return tooMany(`the limit of ${short.name}`, short.buckets.waitMs(key, cost[short.name]));
  }
}

function remaining({ name, buckets }: Limit, key: string): string {
  const { left, fullInSeconds } = buckets.state(key);
  return `"${name}";r=${left};t=${fullInSeconds}`;
}

/** A space is in no name of a client, so that none is taken for an address. */
const keyOf = ({ client, ip }: Pick<FastifyRequest, 'client' | 'ip'>) =>
  client.id ?? `address ${networkOf(ip)}`;

/** An IPv6 host has a /64 to choose addresses from (RFC 4291, 2.5.1), so that counts. Others count as they are. */
function networkOf(ip: string): string {
  if (!isIPv6(ip)) return ip;
  // The URL's form is that of RFC 5952; it takes no zone.
  const address = new URL(`http://[${ip.replace(/%.*/, '')}]`).hostname.slice(1, -1);
  if (address.startsWith('::ffff:')) return address;
  const [left = [], right = []] = address.split('::').map((part) => part.split(':').filter(Boolean));
  const zeros = Array<string>(8 - left.length - right.length).fill('0');
  return `${[...left, ...zeros, ...right].slice(0, 4).join(':')}::/64`;
}

function bytesOf({ method, headers, routeOptions }: FastifyRequest): number {
  if (method !== 'POST') return 0;
  if (headers['transfer-encoding'] !== undefined) return routeOptions.bodyLimit;
  // No more of a body is read.
  return Math.min(Number(headers['content-length'] ?? 0), routeOptions.bodyLimit);
}

/** Charges an address for a failed login. Returns what to answer instead of 401 once it has used up its own. */
export type ChargeFailedLogin = (request: Pick<FastifyRequest, 'ip'>) => ProblemError | undefined;

export function limitFailedLogins({
  rateLimits: { FAILED_LOGINS_PER_MINUTE: perMinute },
  metrics,
}: {
  rateLimits: RateLimitsConfig;
  metrics: RateLimitMetrics;
}): ChargeFailedLogin {
  metrics.rateLimited.inc({ limit: FAILED_LOGINS }, 0);
  if (!perMinute) return () => undefined;
  const buckets = new TokenBuckets({ capacity: perMinute, perSecond: perMinute / SECONDS_PER_MINUTE });
  return ({ ip }) => {
    const network = networkOf(ip);
    const waitMs = buckets.waitMs(network, 1);
    if (waitMs === 0) {
      buckets.take(network, 1);
      return undefined;
    }
    metrics.rateLimited.inc({ limit: FAILED_LOGINS });
    return tooMany('the limit of failed logins of this address', waitMs);
  };
}

const tooMany = (what: string, waitMs: number) =>
  new ProblemError('rate-limited', `${what} is used up for now`, {
    retryAfterSeconds: Math.ceil(waitMs / 1_000),
  });
