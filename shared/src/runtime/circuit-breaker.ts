import {
  CircuitState,
  ConsecutiveBreaker,
  circuitBreaker,
  ExponentialBackoff,
  halfJitterGenerator,
  handleAll,
  type IBackoffFactory,
  isBrokenCircuitError,
} from 'cockatiel';
import type { Logger } from './logger.ts';
import type { CommonMetrics } from './metrics.ts';

export type BreakerOptions = {
  name: string;
  /** Failures in a row that open it; every error is one. */
  failures: number;
  /** How long it stays open before a trial call: doubles from `min` to `max`, each with jitter between half and all. */
  openMs: { min: number; max: number };
  logger: Logger;
  metrics: Pick<CommonMetrics, 'breakerState'>;
};

/** Stops calls to a dependency that is down, and lets a trial call through now and then. */
export type CircuitBreaker = {
  /** @throws the call's own error, or, if the call was not made, one for which {@link isBreakerOpen} is true */
  execute<T>(call: () => Promise<T>): Promise<T>;
  readonly closed: boolean;
};

/** The call was not made, because the breaker is open. */
export const isBreakerOpen: (error: unknown) => boolean = isBrokenCircuitError;

const STATE_VALUE = {
  [CircuitState.Closed]: 0,
  [CircuitState.Open]: 1,
  [CircuitState.Isolated]: 1,
  [CircuitState.HalfOpen]: 2,
};

/**
 * closed --`failures` in a row--> open --time over--> half open --trial succeeds--> closed, or --trial fails--> open.
 * The state is a metric, and each change is a log line.
 */
export function createCircuitBreaker(options: BreakerOptions): CircuitBreaker {
  const { name, logger, metrics } = options;
  const policy = circuitBreaker(handleAll, {
    breaker: new ConsecutiveBreaker(options.failures),
    halfOpenAfter: monotonic(
      new ExponentialBackoff({
        initialDelay: options.openMs.min,
        maxDelay: options.openMs.max,
        generator: halfJitterGenerator,
      }),
    ),
  });
  metrics.breakerState.set({ breaker: name }, 0);
  policy.onStateChange((state) => metrics.breakerState.set({ breaker: name }, STATE_VALUE[state]));
  policy.onBreak((reason) =>
    logger.error({ breaker: name, err: 'error' in reason ? reason.error : undefined }, 'breaker opened'),
  );
  policy.onReset(() => logger.info({ breaker: name }, 'breaker closed'));
  return {
    execute: (call) => policy.execute(call),
    get closed() {
      return policy.state === CircuitState.Closed;
    },
  };
}

/**
 * cockatiel compares a duration with the wall clock: a clock set back by an hour would keep the breaker open for an hour.
 * This duration is infinite until its time is over by the monotonic clock, and negative from then on.
 */
function monotonic<T>(factory: IBackoffFactory<T>): IBackoffFactory<T> {
  return {
    next: (context) => {
      const backoff = factory.next(context);
      const endsAt = performance.now() + backoff.duration;
      return {
        next: monotonic(backoff).next,
        get duration() {
          return performance.now() < endsAt ? Number.POSITIVE_INFINITY : Number.NEGATIVE_INFINITY;
        },
      };
    },
  };
}
