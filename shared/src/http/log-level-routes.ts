import { z } from 'zod';
import { logLevel } from '../runtime/config.ts';
import { LogLevel } from '../runtime/log-level.ts';
import { auditLogger, type Logger } from '../runtime/logger.ts';
import type { HttpServer } from './server.ts';

const DEFAULT_MINUTES = 10;
const MAX_MINUTES = 60;

const change = z.strictObject({
  level: logLevel,
  minutes: z.int().min(1).max(MAX_MINUTES).default(DEFAULT_MINUTES),
});

/** Shows and changes the log level of the service itself, for some minutes. On no page from which everybody tries requests. */
export async function logLevelRoutes(app: HttpServer, { logger }: { logger: Logger }): Promise<void> {
  const current = new LogLevel(logger);
  const audit = auditLogger(logger);
  app.addHook('onClose', async () => current.reset());
  app.get(
    '/actuator/log-level',
    { config: { access: 'operations' }, schema: { hide: true } },
    async () => current.state,
  );
  app.post(
    '/actuator/log-level',
    { config: { access: 'operations:write' }, schema: { hide: true, body: change } },
    async ({ body: { level, minutes }, client, trace: { traceId } }) => {
      current.set(level, minutes * 60_000);
      audit.info(
        { audit: 'log-level', client: client.id, logLevel: level, minutes, traceId },
        'log level changed',
      );
      return current.state;
    },
  );
}
