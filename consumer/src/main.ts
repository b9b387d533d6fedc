import { readFileSync } from 'node:fs';
import { loadDotenv } from '@orders/shared/runtime/dotenv.ts';
import { createLogger } from '@orders/shared/runtime/logger.ts';
import { runService } from '@orders/shared/runtime/service.ts';
import { startConsumer } from './app.ts';
import { loadConsumerConfig } from './config.ts';

const { version: packageVersion } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
);

await runService(process, 'order-consumer', async (onFatal) => {
  loadDotenv(process.env);
  const config = loadConsumerConfig(process.env);
  const version = config.RELEASE_VERSION ?? packageVersion;
  const logger = createLogger({ ...config, service: 'order-consumer', version });
  const { stop } = await startConsumer(config, logger, version, onFatal);
  return { logger, shutdownGraceMs: config.SHUTDOWN_GRACE_MS, stop };
});
