import { z } from 'zod';
import { type AuthConfig, createAuthenticator } from '../src/auth/authenticator.ts';
import { type ComponentHealth, Health } from '../src/http/health.ts';
import type { RateLimitsConfig } from '../src/http/rate-limits.ts';
import { createHttpServer, type HttpServer, type HttpServerOptions } from '../src/http/server.ts';
import { type AppEnv, commonFields, loadConfig } from '../src/runtime/config.ts';
import { type CommonMetrics, createMetrics } from '../src/runtime/metrics.ts';
import { captureLog } from './log-lines.ts';

export type TestHttpApp = {
  app: HttpServer;
  options: HttpServerOptions;
  metrics: CommonMetrics;
  health: Health;
  lines: Record<string, unknown>[];
  /** What the parts of the service say of themselves, for the test to change. */
  state: { live: boolean; sqs: ComponentHealth };
};

/** The HTTP server of both services, ready to be given routes. Whoever opens it closes it. */
export async function createTestHttpApp({
  appEnv = 'dev' as AppEnv,
  bodyLimitBytes = 1_024,
  connectionMaxAgeMs = 5_000,
  maxConnections = 1_000,
  maxBytesInWork = 1024 * 1024,
  corsAllowedOrigins = [] as string[],
  auth = {} as Partial<AuthConfig>,
  docs = true,
  managementPort = undefined as number | undefined,
  rateLimits = {} as Partial<RateLimitsConfig>,
  trustedProxies = [] as string[],
} = {}): Promise<TestHttpApp> {
  const { logger, lines } = captureLog({ APP_ENV: appEnv });
  const metrics = createMetrics('order-test', '1.2.3');
  const state: TestHttpApp['state'] = {
    live: true,
    sqs: { status: 'UP', details: { queue: 'order-queue' } },
  };
  const health = new Health({
    keepMs: 0,
    live: () => state.live,
    components: { sqs: () => state.sqs },
  });
  const info = { name: 'order-test', version: '1.2.3', environment: appEnv };
  const { registry } = metrics;
  const config = loadConfig(z.object(commonFields), {});
  const authenticator = createAuthenticator({
    config: { ...config, APP_ENV: appEnv, AUTH: ['none'], ...auth },
    metrics,
    logger,
  });
  await authenticator.start();
  const options: HttpServerOptions = {
    logger,
    metrics,
    health,
    registry,
    introduction: 'A service under test.',
    info,
    bodyLimitBytes,
    connectionMaxAgeMs,
    maxConnections,
    maxBytesInWork,
    corsAllowedOrigins,
    authenticator,
    rateLimits: { ...config, ...rateLimits },
    trustedProxies,
    docs,
    managementPort,
  };
  const app = await createHttpServer(options);
  return { app, options, metrics, health, lines, state };
}
