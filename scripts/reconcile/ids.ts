import { createHash } from 'node:crypto';

export const ID_BYTES = 16;
const DIGITS = new Int8Array(128).fill(-1);
for (const [value, digit] of [...'0123456789abcdef'].entries()) {
  DIGITS[digit.charCodeAt(0)] = value;
  DIGITS[digit.toUpperCase().charCodeAt(0)] = value;
}

/** Writes the 16 bytes of 32 hexadecimal digits, dashes between them ignored. @returns whether the text was such */
export function writeHexId(text: string, target: Buffer, offset: number): boolean {
  let digits = 0;
  for (let index = 0; index < text.length; index++) {
    const code = text.charCodeAt(index);
    if (code === 0x2d) continue;
    const value = code < 128 ? (DIGITS[code] as number) : -1;
    if (value < 0 || digits === 2 * ID_BYTES) return false;
    const at = offset + (digits >> 1);
    target[at] = digits % 2 === 0 ? value << 4 : (target[at] as number) | value;
    digits++;
  }
  return digits === 2 * ID_BYTES;
}

/** As {@link writeHexId}; of another text it writes a hash. @returns whether the text can be read back */
export function writeAnyId(text: string, target: Buffer, offset: number): boolean {
  if (writeHexId(text, target, offset)) return true;
  createHash('sha256').update(text).digest().copy(target, offset, 0, ID_BYTES);
  return false;
}

/** An id, or other bytes, as a compact text, to look it up in sets and maps. */
export function keyOf(records: Buffer, offset: number, bytes = ID_BYTES): string {
  return records.toString('latin1', offset, offset + bytes);
}

export function keyOfText(text: string): string {
  const bytes = Buffer.alloc(ID_BYTES);
  writeAnyId(text, bytes, 0);
  return keyOf(bytes, 0);
}

export function readUuid(records: Buffer, offset: number): string {
  const hex = records.toString('hex', offset, offset + ID_BYTES);
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-');
}

export const CONTENT_BYTES = 8;

/** Writes the first bytes of a content hash, whole or cut. @returns whether the text was one that can be compared */
export function writeContent(text: string, target: Buffer, offset: number): boolean {
  target.fill(0, offset, offset + CONTENT_BYTES);
  return text.startsWith('v1:') && target.write(text.slice(3, 19), offset, 'hex') === CONTENT_BYTES;
}

export const CLIENT_BYTES = 8;

/** Writes a hash of a client's name. @returns whether there was one */
export function writeClient(name: string | undefined, target: Buffer, offset: number): boolean {
  if (!name) return false;
  createHash('sha256').update(name).digest().copy(target, offset, 0, CLIENT_BYTES);
  return true;
}

/** Undefined where it is not said whose an order was. */
export function keyOfClient(name: string | undefined): string | undefined {
  const bytes = Buffer.alloc(CLIENT_BYTES);
  return writeClient(name, bytes, 0) ? keyOf(bytes, 0, CLIENT_BYTES) : undefined;
}

/** The order of an id by its content, to look it up in sets and maps. Undefined where the hash cannot be compared. */
export function keyOfContent(orderId: string, contentHash: string): string | undefined {
  const bytes = Buffer.alloc(ID_BYTES + CONTENT_BYTES);
  writeAnyId(orderId, bytes, 0);
  return writeContent(contentHash, bytes, ID_BYTES) ? bytes.toString('latin1') : undefined;
}
