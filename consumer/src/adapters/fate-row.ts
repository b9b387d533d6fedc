import { UUID } from '@orders/shared/runtime/uuid.ts';
import { MAX_FATES_READ, type OrderFate } from '../domain/order-fate.ts';

/** A fate as the columns that both databases have. */
export type FateRow = {
  order_id: string;
  message_id: string;
  content_hash: string;
  kind: OrderFate['kind'];
  client_id: string | null;
  reason: string;
  detail: string;
  attempts: number;
  failures: number;
  first_seen_at_ms: number;
  occurred_at_ms: number;
  release: string;
  trace_id: string;
};

export const FATE_COLUMNS =
  'order_id, message_id, content_hash, kind, client_id, reason, detail, attempts, failures, first_seen_at_ms, occurred_at_ms, release, trace_id';

/** The latest fates of an order, for a clause that says whose; the latest comes first. */
export const selectFates = (orderIs: string, owner: string, columns = FATE_COLUMNS): string =>
  `SELECT ${columns} FROM order_fates WHERE ${orderIs} AND ${owner} ORDER BY occurred_at_ms DESC, kind LIMIT ${MAX_FATES_READ}`;

/** Of texts, which whoever sends a message may write; an index of PostgreSQL holds keys of 2,700 bytes. */
const MAX_KEY_CHARACTERS = 200;
const MAX_TEXT_CHARACTERS = 1_000;
const MAX_INTEGER = 2 ** 31 - 1;

/** Ids are in lower case; what is not a UUID is no order's, and is left out, so that it does not keep the others out. */
export function toFateRows(fates: readonly OrderFate[]): FateRow[] {
  // PostgreSQL refuses NUL, and half a character.
  const text = (value: string, max = MAX_KEY_CHARACTERS) =>
    value.replaceAll('\0', '').slice(0, max).toWellFormed();
  const count = (value: number) => Math.min(MAX_INTEGER, Math.max(0, Math.trunc(value)));
  return fates
    .filter(({ orderId }) => UUID.test(orderId))
    .map((fate) => ({
      order_id: fate.orderId.toLowerCase(),
      message_id: text(fate.messageId),
      content_hash: text(fate.contentHash),
      kind: fate.kind,
      client_id: fate.clientId === undefined ? null : text(fate.clientId),
      reason: text(fate.reason),
      detail: text(fate.detail, MAX_TEXT_CHARACTERS),
      attempts: count(fate.attempts),
      failures: count(fate.failures),
      first_seen_at_ms: fate.firstSeenAt.getTime(),
      occurred_at_ms: fate.at.getTime(),
      release: text(fate.release),
      trace_id: text(fate.traceId),
    }));
}

export const fromFateRow = (row: FateRow): OrderFate => ({
  kind: row.kind,
  orderId: row.order_id,
  messageId: row.message_id,
  contentHash: row.content_hash,
  clientId: row.client_id ?? undefined,
  reason: row.reason,
  detail: row.detail,
  attempts: row.attempts,
  failures: row.failures,
  firstSeenAt: new Date(row.first_seen_at_ms),
  at: new Date(row.occurred_at_ms),
  release: row.release,
  traceId: row.trace_id,
});
