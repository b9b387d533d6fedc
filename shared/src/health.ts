import type { AppEnv } from './config.ts';

export type HealthStatus = 'UP' | 'DOWN';
export type ComponentHealth = { status: HealthStatus; details?: Record<string, unknown> };
export type HealthCheck = () => ComponentHealth | Promise<ComponentHealth>;

export type HealthOptions = {
  appEnv: AppEnv;
  /** What the service needs and is made of. All of them UP is UP. */
  components: Record<string, HealthCheck>;
  /** True as long as the service makes progress; false asks the platform to restart it. */
  live: () => boolean;
};

const CHECK_TIMEOUT_MS = 2_000;

/** The three questions that platforms and operators ask: is it alive, is it ready, what is wrong. */
export class Health {
  readonly #options: HealthOptions;
  #accepting = false;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** Readiness while the service starts and stops is DOWN, whatever its components say. */
  setAccepting(accepting: boolean): void {
    this.#accepting = accepting;
  }

  liveness(): ComponentHealth {
    return { status: this.#options.live() ? 'UP' : 'DOWN' };
  }

  async readiness(): Promise<ComponentHealth> {
    return this.#accepting ? { status: (await this.full()).status } : { status: 'DOWN' };
  }

  /** Spring Actuator's shape. In production the details stay inside: nobody is authorised yet to see them. */
  async full(): Promise<{ status: HealthStatus; components?: Record<string, ComponentHealth> }> {
    const entries = await Promise.all(
      Object.entries(this.#options.components).map(
        async ([name, check]) => [name, await bounded(check)] as const,
      ),
    );
    const status = entries.every(([, { status }]) => status === 'UP') ? 'UP' : 'DOWN';
    return this.#options.appEnv === 'production'
      ? { status }
      : { status, components: Object.fromEntries(entries) };
  }
}

/** A check that does not answer is an answer. */
async function bounded(check: HealthCheck): Promise<ComponentHealth> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<ComponentHealth>((resolve) => {
    timer = setTimeout(resolve, CHECK_TIMEOUT_MS, {
      status: 'DOWN',
      details: { error: 'no answer in time' },
    });
  });
  try {
    return await Promise.race([late, check()]);
  } catch (error) {
    return { status: 'DOWN', details: { error: error instanceof Error ? error.message : String(error) } };
  } finally {
    clearTimeout(timer);
  }
}
