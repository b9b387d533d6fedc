import { v5 } from 'uuid';

/** Of this project alone. */
const NAMESPACE = '6b1ffb0c-9a0d-4f0e-8a55-0c7f6a1f3c11';

/** UUIDv5 (RFC 9562 §5.5): the same name is the same id. The producer keeps those of version 8 for idempotency keys. */
export const uuidOfName = (name: string): string => v5(name, NAMESPACE);
