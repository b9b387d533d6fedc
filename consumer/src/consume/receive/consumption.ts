import type { Condition } from '../condition.ts';

/** `by` is the client that asked for it; undefined where clients are not asked who they are. */
export type Pause = { readonly by: string | undefined; readonly since: Date };

/**
 * Whether this process polls, as operators want it. A pause lets polls under way and all that was received come to their
 * end, heartbeats included. It ends with the process: a pod that starts, starts to consume.
 */
export class Consumption {
  readonly #changed: Condition;
  #pause: Pause | undefined;

  /** @param changed notified when the pause ends */
  constructor(changed: Condition) {
    this.#changed = changed;
  }

  get pause(): Pause | undefined {
    return this.#pause;
  }

  /** @returns false, and changes nothing, if it was so already: who paused first, and when, is kept */
  set(paused: boolean, by: string | undefined): boolean {
    if (paused === (this.#pause !== undefined)) return false;
    this.#pause = paused ? { by, since: new Date() } : undefined;
    this.#changed.notifyAll();
    return true;
  }
}
