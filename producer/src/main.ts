import { readFileSync } from 'node:fs';
import { loadDotenv } from '@orders/shared/runtime/dotenv.ts';
import { createLogger } from '@orders/shared/runtime/logger.ts';
import { runService } from '@orders/shared/runtime/service.ts';
import { startProducer } from './app.ts';
import { loadProducerConfig } from './config.ts';

const { version: packageVersion } = JSON.parse(
  readFileSync(new URL('../package.json', import.meta.url), 'utf8'),
);

await runService(process, 'order-producer', async () => {
  loadDotenv(process.env);
  const config = loadProducerConfig(process.env);
  const version = config.RELEASE_VERSION ?? packageVersion;
  const logger = createLogger({ ...config, service: 'order-producer', version });
  const { stop } = await startProducer(config, logger, version);
  return { logger, shutdownGraceMs: config.SHUTDOWN_GRACE_MS, stop };
});
