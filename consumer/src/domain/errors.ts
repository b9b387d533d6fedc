/** The store cannot work now: an outage, never the fault of an order. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
  readonly code = 'STORE_UNAVAILABLE';
  /** The refusal that meets every order, where the store still answers. */
  readonly refusal: string | undefined;

  constructor(message: string, { refusal, ...options }: ErrorOptions & { refusal?: string } = {}) {
    super(message, options);
    this.refusal = refusal;
  }
}

/** The store answers, and refuses an order. Whether it would refuse any order is not known yet. */
export class OrderRefusedError extends Error {
  /** The kind of refusal, in the store's own terms: an SQLSTATE, a result code. */
  readonly refusal: string;

  constructor(message: string, { refusal = '', ...options }: ErrorOptions & { refusal?: string } = {}) {
    super(message, options);
    this.refusal = refusal;
  }
}

/** Refused for what the order contains: it can never be stored. */
export class OrderNotStorableError extends OrderRefusedError {
  override readonly name = 'OrderNotStorableError';
  readonly code = 'ORDER_NOT_STORABLE';
}

/** Refused by a rule of the store (a trigger, a second unique index); it may be taken later. */
export class OrderRefusedByRuleError extends OrderRefusedError {
  override readonly name = 'OrderRefusedByRuleError';
  readonly code = 'ORDER_REFUSED';
}

/** Another transaction holds the row of this id, and has for longer than a save waits. */
export class OrderLockedError extends OrderRefusedError {
  override readonly name = 'OrderLockedError';
  readonly code = 'ORDER_LOCKED';
}

/** An order of this id is stored already, with other content or for another client. The stored one stays as it is. */
export class OrderConflictError extends Error {
  override readonly name = 'OrderConflictError';
  readonly code = 'CONFLICT';
}
