import { backoffMs } from '@orders/shared/runtime/backoff.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { StoreUnavailableError } from '../../domain/errors.ts';
import type { ConsumerMetrics } from '../../metrics.ts';
import type { Condition } from '../condition.ts';
import type { SaveTrial } from './save-trial.ts';

const NAME = { breaker: 'store' };

export type StoreGateOptions = {
  trial: Pick<SaveTrial, 'run'>;
  /** How long the gate stays shut before a trial: `min` after the first failure, doubling, to `max`; of each between half and all. */
  shutMs: { min: number; max: number };
  /** By then, a message whose save failed was held, released, and received again by whoever is free. */
  comesBackMs: number;
  /** Notified at each change of what {@link StoreGate.allowance} returns. */
  changed: Condition;
  logger: Logger;
  metrics: Pick<ConsumerMetrics, 'breakerState'>;
};

type State =
  | { name: 'trusted' }
  | { name: 'shut'; reason: StoreUnavailableError }
  /** `allowance`: how many messages the next poll may ask for. */
  | { name: 'proving'; reason: StoreUnavailableError; allowance: number };

const STATE_VALUE = { trusted: 0, shut: 1, proving: 2 };

/**
 * The breaker between the queue and the store: it alone says whether the store is down. Admission asks it how many
 * messages may be received, the message store whether to hold what was received, and each save passes through it.
 * A trial finds out whether the store is back, never a message; but only a real save proves it, since no trial is all
 * that a save is.
 *
 * - *trusted*: every poller asks, and saves run side by side.
 * - *shut*: nobody asks, and saves are refused without a call. When its time is over, a trial runs.
 * - *proving*: saves run one at a time, and one poller asks for one message once the outcomes of all others are known. So
 *   an outage that a trial cannot see costs few receives. Messages that need no save, such as unreadable ones, prove
 *   nothing; after each of them the poller may ask for one more, so that a flood of them does not hold up the orders
 *   behind it.
 *
 * ```
 * trusted ──a save fails──▶ shut ──its time is over, a trial is committed──▶ proving ──a save goes through──▶ trusted
 *                          ▲    ▲                       │ the trial fails        │  └─nothing to save─────────▶
 *                          │    └── longer each time ───┘                        │
 *                          └─────────────────── longer each time ──the save fails┘
 * ```
 */
export class StoreGate {
  readonly #options: StoreGateOptions;
  #state: State = { name: 'trusted' };
  /** Failures since the last save that went through. */
  #failures = 0;
  /** A refusal that met every order, since then. A trial that still meets it has failed. */
  #refusal: string | undefined;
  /** A trial was committed since then. */
  #trialPassed = false;
  /** When a save failed last although a trial had passed. */
  #misledMs = Number.NEGATIVE_INFINITY;
  #trialTimer: NodeJS.Timeout | undefined;
  #stopped = false;
  #proof: Promise<void> | undefined;
  /** Messages that were received and have no outcome yet. Telling SQS comes after the outcome. */
  #inWork = 0;

  constructor(options: StoreGateOptions) {
    this.#options = options;
    options.metrics.breakerState.set(NAME, STATE_VALUE.trusted);
  }

  /** Whether a save may be tried. */
  get open(): boolean {
    return this.#state.name !== 'shut';
  }

  /** Why the store is not trusted, if it is not. */
  get doubt(): StoreUnavailableError | undefined {
    return this.#state.name === 'trusted' ? undefined : this.#state.reason;
  }

  /**
   * Makes the call, which saves.
   * @throws the call's own error, or {@link StoreUnavailableError} without a call while the gate is shut
   */
  async save<T>(call: () => Promise<T>): Promise<T> {
    while (this.#proof) await this.#proof;
    const state = this.#state;
    if (state.name === 'shut')
      throw new StoreUnavailableError('the store was down a moment ago', { cause: state.reason });
    const saving = this.#observe(state, call);
    if (state.name === 'proving') {
      const done = () => {
        this.#proof = undefined;
      };
      this.#proof = saving.then(done, done);
    }
    return saving;
  }

  /** How many messages that poller may ask for now. */
  allowance(poller: number): number {
    switch (this.#state.name) {
      case 'trusted':
        return Number.POSITIVE_INFINITY;
      case 'shut':
        return 0;
      case 'proving':
        return poller === 0 && this.#inWork === 0 ? this.#state.allowance : 0;
    }
  }

  /** Resolves when a save may be tried, or the signal is aborted. */
  async untilOpen(signal: AbortSignal): Promise<void> {
    await this.#options.changed.until(() => this.open || undefined, signal);
  }

  /** To be called with the number of messages that each poll brought, before their processing begins. */
  recordReceived(count: number): void {
    this.#inWork += count;
    if (this.#state.name !== 'proving') return;
    this.#state.allowance += count;
    // Without orders a trial is all the proof there is; but where one misled before, what failed then must have had the
    // time to come back.
    const cameBack = performance.now() - this.#misledMs >= this.#options.comesBackMs;
    if (this.#inWork === 0 && cameBack) this.#trust();
  }

  /** To be called when the outcome of so many of them is known. */
  recordOutcomes(count: number): void {
    this.#inWork -= count;
    this.#options.changed.notifyAll();
  }

  /** Makes no more trials. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#trialTimer);
  }

  async #observe<T>(state: State, call: () => Promise<T>): Promise<T> {
    try {
      const result = await call();
      // What began before the gate was shut proves nothing of now.
      if (this.#state === state) this.#proven();
      return result;
    } catch (error) {
      if (error instanceof StoreUnavailableError && this.#state === state) {
        if (this.#trialPassed) this.#misledMs = performance.now();
        this.#shut(error);
      }
      throw error;
    }
  }

  #proven(): void {
    this.#failures = 0;
    this.#refusal = undefined;
    this.#trialPassed = false;
    if (this.#state.name !== 'trusted') this.#trust();
  }

  async #try(reason: StoreUnavailableError): Promise<void> {
    this.#options.metrics.breakerState.set(NAME, STATE_VALUE.proving);
    try {
      const refusals = await this.#options.trial.run();
      // A trial that is refused otherwise may only differ from orders: one of those will tell.
      if (this.#refusal !== undefined && refusals.has(this.#refusal)) this.#shut(reason);
      else {
        this.#trialPassed = true;
        this.#enter({ name: 'proving', reason, allowance: 1 });
      }
    } catch (error) {
      this.#shut(error as StoreUnavailableError);
    }
  }

  #shut(reason: StoreUnavailableError): void {
    const { min: baseMs, max: maxMs } = this.#options.shutMs;
    const shutMs = backoffMs(this.#failures++, { baseMs, maxMs });
    this.#refusal = reason.refusal ?? this.#refusal;
    this.#enter({ name: 'shut', reason });
    if (!this.#stopped) this.#trialTimer = setTimeout(() => void this.#try(reason), shutMs);
    this.#options.logger.error({ ...NAME, err: reason, failures: this.#failures }, 'breaker opened');
  }

  #trust(): void {
    this.#enter({ name: 'trusted' });
    this.#options.logger.info(NAME, 'breaker closed');
  }

  #enter(state: State): void {
    this.#state = state;
    this.#options.metrics.breakerState.set(NAME, STATE_VALUE[state.name]);
    this.#options.changed.notifyAll();
  }
}
