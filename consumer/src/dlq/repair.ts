import { isEncrypted } from '@orders/shared/order/encrypted-message.ts';
import {
  type ClaimedOrder,
  decodeOrderMessage,
  type EncodedMessage,
  encodeOrderMessage,
  MessageTooLargeError,
  NewerVersionError,
  openEnvelope,
  UnreadableMessageError,
} from '@orders/shared/order/message.ts';
import { unpackMessages } from '@orders/shared/order/packed-message.ts';
import { applyPatch, type Operation } from 'rfc6902';
import { z } from 'zod';

/** Makes a good order of the data of a message, which may be anything. Its argument is its own. */
export type Repair = (order: unknown) => unknown;

/** The repair cannot be made; the message says why, in words of ours. */
export class NotRepairableError extends Error {
  override readonly name = 'NotRepairableError';
  readonly code = 'NOT_REPAIRABLE';
}

/** One value of the order that differs, by its JSON Pointer (RFC 6901); undefined where it is not there. */
export type Change = { path: string; before?: unknown; after?: unknown };

export type Repaired = EncodedMessage & { order: ClaimedOrder; changes: Change[] };

const pointer = z.string().regex(/^(\/.*)?$/s);
const patchSchema = z.array(
  z.discriminatedUnion('op', [
    z.strictObject({ op: z.enum(['add', 'replace', 'test']), path: pointer, value: z.json() }),
    z.strictObject({ op: z.literal('remove'), path: pointer }),
    z.strictObject({ op: z.enum(['move', 'copy']), from: pointer, path: pointer }),
  ]),
);

/** A JSON Patch (RFC 6902). An order to which one of its operations does not apply is not repaired. @throws {z.ZodError} */
export function jsonPatch(json: unknown): Repair {
  const operations = patchSchema.parse(json);
  return (order) => {
    // Of the root, only what holds it can be replaced.
    const holder = { order };
    const within = structuredClone(operations).map((operation) => {
      const { path, from } = operation as { path: string; from?: string };
      return {
        ...operation,
        path: `/order${path}`,
        ...(from === undefined ? {} : { from: `/order${from}` }),
      };
    });
    for (const [index, operation] of within.entries()) {
      const [error] = applyPatch(holder, [operation as Operation]);
      if (error)
        throw new NotRepairableError(`operation ${index + 1} of the patch does not apply (${error.name})`);
    }
    return holder.order;
  };
}

/**
 * The message with its order repaired, checked by this release; under the id that it had, or else in the form of
 * version 1.
 * @param identity whether the repair may change whose order it is: its id or its customer
 * @throws {NotRepairableError} it is packed or encrypted, the repair does not apply, or makes no good order
 */
export async function repairMessage(
  body: string,
  repair: Repair,
  { identity = false } = {},
): Promise<Repaired> {
  try {
    return await repaired(body, repair, identity);
  } catch (error) {
    if (error instanceof RangeError) throw new NotRepairableError('nested too deeply');
    const isBad = [UnreadableMessageError, NewerVersionError, MessageTooLargeError].some(
      (kind) => error instanceof kind,
    );
    if (!isBad) throw error;
    const { code, message } = error as UnreadableMessageError;
    throw new NotRepairableError(`still ${code} (${message})`);
  }
}

async function repaired(body: string, repair: Repair, identity: boolean): Promise<Repaired> {
  if (isEncrypted(body)) throw new NotRepairableError('encrypted messages are not repaired');
  if (unpackMessages(body)[0] !== body) throw new NotRepairableError('packed messages are not repaired');
  const { envelope, data } = openEnvelope(body);
  const { id, contentencoding: encoding, traceparent, clientid } = envelope;
  const result = await attempt(repair, structuredClone(data));
  const event = { specversion: '1.0', id, source: '/repair', type: 'order.placed.v1', data: result };
  const { order, contentHash } = decodeOrderMessage(JSON.stringify(event));
  const before = Object(data) as { orderId?: unknown; customerId?: unknown };
  if (!identity) {
    const ids = [id, before.orderId ?? id].map((each) => String(each).toLowerCase());
    if (ids.some((each) => each !== order.orderId))
      throw new NotRepairableError('the repair changes orderId: whose order it is stays');
    if (before.customerId !== order.customerId)
      throw new NotRepairableError('the repair changes customerId: whose order it is stays');
  }
  const message = { order, contentHash, traceparent, clientId: clientid };
  const compressAboveBytes = encoding === 'identity' ? Number.POSITIVE_INFINITY : 0;
  const encoded = await encodeOrderMessage(message, { version: 1, encoding, compressAboveBytes });
  const claimed = { orderId: order.orderId, contentHash, clientId: clientid };
  return { ...encoded, order: claimed, changes: changesOf(data, order) };
}

async function attempt(repair: Repair, order: unknown): Promise<unknown> {
  try {
    return await repair(order);
  } catch (error) {
    if (error instanceof NotRepairableError) throw error;
    // What it says may quote the order.
    throw new NotRepairableError(`the repair fails with ${error instanceof Error ? error.name : 'an error'}`);
  }
}

/** Values that differ, by their place: linear in their number, where a shortest edit of lists is quadratic. */
function changesOf(before: unknown, after: unknown): Change[] {
  const [was, is] = [leavesOf(before), leavesOf(after)];
  return [...new Set([...was.keys(), ...is.keys()])]
    .filter((path) => was.get(path) !== is.get(path))
    .map((path) => ({ path, before: was.get(path), after: is.get(path) }));
}

function leavesOf(value: unknown, path = '', leaves = new Map<string, unknown>()): Map<string, unknown> {
  const entries = value !== null && typeof value === 'object' ? Object.entries(value) : [];
  if (entries.length === 0)
    // An empty list or object is a value too.
    leaves.set(path, value !== null && typeof value === 'object' ? JSON.stringify(value) : value);
  for (const [name, part] of entries)
    leavesOf(part, `${path}/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`, leaves);
  return leaves;
}
