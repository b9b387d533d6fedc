export type HealthStatus = 'UP' | 'DOWN';
export type ComponentHealth = { status: HealthStatus; details?: Record<string, unknown> };
type FullHealth = { status: HealthStatus; components: Record<string, ComponentHealth> };
export type HealthCheck = () => ComponentHealth | Promise<ComponentHealth>;

export type HealthOptions = {
  /** The parts and dependencies of the service. It is UP when all of them are. */
  components: Record<string, HealthCheck>;
  /** True as long as the service makes progress; false asks the platform to restart it. */
  live: () => boolean;
  /** How long the state of the components is cached; 1 s by default. */
  keepMs?: number;
};

const CHECK_TIMEOUT_MS = 2_000;
/** The endpoints are open and called often, by people and probes; each check costs a request or a write. */
const DEFAULT_KEEP_MS = 1_000;

/** Answers what platforms and operators ask: is it alive, is it ready, what is wrong. */
export class Health {
  readonly #options: HealthOptions;
  #accepting = false;
  #last: { at: number; answer: Promise<FullHealth> } | undefined;

  constructor(options: HealthOptions) {
    this.#options = options;
  }

  /** While the service starts and stops, readiness is DOWN, whatever its components report. */
  setAccepting(accepting: boolean): void {
    this.#accepting = accepting;
  }

  /** False while the service starts and stops. */
  get accepting(): boolean {
    return this.#accepting;
  }

  liveness(): ComponentHealth {
    return { status: this.#options.live() ? 'UP' : 'DOWN' };
  }

  async readiness(): Promise<ComponentHealth> {
    return this.#accepting ? { status: (await this.full()).status } : { status: 'DOWN' };
  }

  /** In the shape of Spring's Actuator. */
  full(): Promise<FullHealth> {
    const now = performance.now();
    if (!this.#last || now - this.#last.at >= (this.#options.keepMs ?? DEFAULT_KEEP_MS)) {
      this.#last = { at: now, answer: this.#ask() };
    }
    return this.#last.answer;
  }

  async #ask(): Promise<FullHealth> {
    const entries = await Promise.all(
      Object.entries(this.#options.components).map(
        async ([name, check]) => [name, await bounded(check)] as const,
      ),
    );
    const status = entries.every(([, { status }]) => status === 'UP') ? 'UP' : 'DOWN';
    return { status, components: Object.fromEntries(entries) };
  }
}

/** A check that does not answer in time is DOWN. */
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
