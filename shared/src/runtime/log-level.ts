import type { Logger } from './logger.ts';

/** A level for some time; then the configured one comes back by itself, so that no service fills its disk for weeks. */
export class LogLevel {
  readonly #logger: Pick<Logger, 'level'>;
  readonly #configured: string;
  #revert: { timer: NodeJS.Timeout; at: Date } | undefined;

  /** @param logger the service's own; loggers of libraries, and of audits, have a level of their own */
  constructor(logger: Pick<Logger, 'level'>) {
    this.#logger = logger;
    this.#configured = logger.level;
  }

  get state(): { level: string; configured: string; until?: string } {
    const until = this.#revert && { until: this.#revert.at.toISOString() };
    return { level: this.#logger.level, configured: this.#configured, ...until };
  }

  /** A later call replaces an earlier one, its time included. */
  set(level: string, ms: number): void {
    this.reset();
    this.#logger.level = level;
    this.#revert = { timer: setTimeout(() => this.reset(), ms), at: new Date(Date.now() + ms) };
  }

  /** Back to the configured level now. */
  reset(): void {
    clearTimeout(this.#revert?.timer);
    this.#revert = undefined;
    this.#logger.level = this.#configured;
  }
}
