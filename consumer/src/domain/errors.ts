/** The store cannot work now: an outage, never the fault of an order. */
export class StoreUnavailableError extends Error {
  override readonly name = 'StoreUnavailableError';
  readonly code = 'STORE_UNAVAILABLE';
}

/** The store works, and refuses this order for what it contains. */
export class OrderNotStorableError extends Error {
  override readonly name = 'OrderNotStorableError';
  readonly code = 'ORDER_NOT_STORABLE';
}

/** The store works, but a rule in it (a trigger) refuses this order; it may take it later. */
export class OrderRefusedByRuleError extends Error {
  override readonly name = 'OrderRefusedByRuleError';
  readonly code = 'ORDER_REFUSED';
}

/** An order of this id is stored already, with other content. The stored one stays as it is. */
export class OrderConflictError extends Error {
  override readonly name = 'OrderConflictError';
  readonly code = 'CONFLICT';
}
