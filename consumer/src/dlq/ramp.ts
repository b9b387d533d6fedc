/** So many are sent in all before the outcome of each of them is waited for. */
const STEPS = [1, 2, 5, 20];
/** Outcomes that the share of failures is taken of. */
const WINDOW = 50;
/** After the ramp: sent, and no outcome known. */
const MAX_UNSETTLED = 500;

/**
 * How many messages may be sent, by what became of those before: 1, 2, 5, 20 in all, then as many as one likes. It closes
 * for good when more than a share of the last outcomes are failures.
 */
export class Ramp {
  readonly #maxFailingShare: number;
  #sent = 0;
  #settled = 0;
  readonly #recent: boolean[] = [];

  /** @param maxFailingShare from 0, where one failure is too much, to 1, where none is */
  constructor({ maxFailingShare }: { maxFailingShare: number }) {
    this.#maxFailingShare = maxFailingShare;
  }

  /** So many more may be sent now. */
  room(): number {
    if (this.isFailing()) return 0;
    const step = STEPS.find((each) => this.#settled < each);
    return step === undefined ? MAX_UNSETTLED - (this.#sent - this.#settled) : Math.max(0, step - this.#sent);
  }

  sent(messages: number): void {
    this.#sent += messages;
  }

  settled(isFailure: boolean): void {
    this.#settled++;
    this.#recent.push(isFailure);
    if (this.#recent.length > WINDOW) this.#recent.shift();
  }

  /** What is under way counts as good. */
  isFailing(): boolean {
    const failures = this.#recent.filter(Boolean).length;
    return failures > this.#maxFailingShare * Math.max(1, Math.min(WINDOW, this.#sent));
  }
}
