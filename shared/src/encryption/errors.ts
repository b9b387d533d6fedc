/** The content cannot be authenticated, or belongs to a key that an operator declared lost: nobody can ever read it. */
export class UndecryptableError extends Error {
  override readonly name = 'UndecryptableError';
  readonly code = 'UNDECRYPTABLE';
}

/** The message is encrypted with a key that this process was not given. Another process, or this one later, may have it. */
export class NoKeyError extends Error {
  override readonly name = 'NoKeyError';
  readonly code = 'NO_KEY';
  traceparent: string | undefined;
}

/** KMS is away, throttles, denies the key or has it disabled: an outage, never the fault of a message. */
export class KeyUnavailableError extends Error {
  override readonly name = 'KeyUnavailableError';
  readonly code = 'KEY_UNAVAILABLE';
}
