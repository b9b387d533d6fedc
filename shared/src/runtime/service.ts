import type { Logger } from './logger.ts';
import { watchParent } from './parent.ts';
import { StartupError } from './startup-error.ts';
import { withoutCredentials } from './without-credentials.ts';

/** A started service, for whoever runs it. */
export type Service = {
  logger: Logger;
  /** How long {@link stop} may take before the process exits anyway. */
  shutdownGraceMs: number;
  /** Accepts nothing new, finishes what is under way and closes what it opened. Resolves when that is done. */
  stop: () => Promise<void>;
};

/** A part of the running service failed for good. The process must not go on without it. */
export type FatalHandler = (error: unknown) => void;

/** How long a start may go on after SIGTERM; the grace period is not known yet. */
const START_PATIENCE_MS = 5_000;

/**
 * Runs a service as the process. Exit status: 0 after a clean stop; 1 if it cannot start, fails, or overruns its grace
 * period, which counts from the signal. A service stopped while it starts has nothing to finish: the status is 0 even if
 * that start fails or takes too long. SIGTERM stops it. So does SIGINT, unless a supervisor started it over an IPC
 * channel: the terminal sends Ctrl-C to the whole group, and the supervisor decides the order. The service also stops
 * when the channel closes (the supervisor is gone) or when the npm that started it is gone.
 * It takes no arguments, and does not start with any.
 */
export async function runService(
  process: NodeJS.Process,
  name: string,
  start: (onFatal: FatalHandler) => Promise<Service>,
): Promise<void> {
  let service: Service | undefined;
  let stoppingSinceMs: number | undefined;

  const die = (error: unknown): never => {
    const say = (text: unknown) => process.stderr.write(withoutCredentials(`${name}: ${text}\n`));
    if (error instanceof StartupError) say(error.message);
    else if (service) service.logger.fatal({ err: error }, 'service failed');
    else say(error instanceof Error ? error.stack : error);
    return process.exit(1);
  };
  const stop = async (cause: string): Promise<void> => {
    if (stoppingSinceMs !== undefined) return;
    stoppingSinceMs = performance.now();
    if (service) return stopService(service, cause);
    // Still starting: nothing was accepted or received yet. The end of the start checks whether to stop.
    setTimeout(() => service || process.exit(0), START_PATIENCE_MS).unref();
  };
  const stopService = async ({ logger, shutdownGraceMs, stop }: Service, cause: string): Promise<void> => {
    logger.info({ cause, shutdownGraceMs }, 'stopping');
    const startedAt = performance.now();
    const spentMs = startedAt - (stoppingSinceMs ?? startedAt);
    setTimeout(
      () => die(new Error('the grace period ended before everything was finished')),
      shutdownGraceMs - spentMs,
    ).unref();
    await stop();
    logger.info({ durationMs: performance.now() - startedAt }, 'stopped');
    process.exit(0);
  };

  process.on('SIGTERM', () => void stop('SIGTERM').catch(die));
  process.on('SIGINT', () => {
    if (!process.connected) void stop('SIGINT').catch(die);
  });
  process.on('disconnect', () => void stop('supervisor gone').catch(die));
  watchParent(process, () => void stop('npm gone').catch(die));
  process.on('uncaughtException', die);
  process.on('unhandledRejection', die);

  try {
    const words = process.argv.slice(2).join(' ');
    // Who asks for help, or takes it for another program, has no queue in mind.
    if (words) throw new StartupError(`not understood: ${words}; environment variables configure it`);
    service = await start(die);
    if (stoppingSinceMs !== undefined) await stopService(service, 'stopped while starting');
  } catch (error) {
    if (service || stoppingSinceMs === undefined) die(error);
    else process.exit(0);
  }
}
