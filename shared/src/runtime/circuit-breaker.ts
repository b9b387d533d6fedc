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
  /** How long it stays open before one trial call is let through: from `min`, doubling, to `max`; of each between half and all. */
  openMs: { min: number; max: number };
  logger: Logger;
  metrics: Pick<CommonMetrics, 'breakerState'>;
};

/** Stops calling a dependency that is down, and lets one call through now and then to see whether it is back. */
export type CircuitBreaker = {
  /** @throws the call's own error, or one for which {@link isBreakerOpen} holds when the call was not made */
  execute<T>(call: () => Promise<T>): Promise<T>;
  readonly closed: boolean;
};

/** The call was not made, since the breaker is open. */
export const isBreakerOpen: (error: unknown) => boolean = isBrokenCircuitError;

const STATE_VALUE = {
  [CircuitState.Closed]: 0,
  [CircuitState.Open]: 1,
  [CircuitState.Isolated]: 1,
  [CircuitState.HalfOpen]: 2,
};

/** Closed at first. Its state is a metric, and each change of it a log line. */
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
 * cockatiel compares a duration with the wall clock: one that is set back by an hour would keep the breaker open for
 * an hour. This one is endless until its time is over by the monotonic clock, and nothing from then on.
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
