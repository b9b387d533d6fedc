/** Knows until when each activity must have made its next step. Liveness is progress, not reachability of others. */
export class Watchdog {
  readonly #deadlines = new Map<string, number>();

  /** The activity took a step and takes its next within so many milliseconds. */
  expect(activity: string, withinMs: number): void {
    this.#deadlines.set(activity, performance.now() + withinMs);
  }

  /** The activity has ended. */
  done(activity: string): void {
    this.#deadlines.delete(activity);
  }

  overdue(): string[] {
    const now = performance.now();
    return [...this.#deadlines].filter(([, deadline]) => deadline < now).map(([activity]) => activity);
  }
}
