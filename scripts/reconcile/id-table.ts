import { randomBytes } from 'node:crypto';
import { ID_BYTES } from './ids.ts';

const WORDS = ID_BYTES / 4;
const FREE = -1;

/** Another one in each process: who knows it can choose ids that all want the same place. */
const [A, B, C, D] = Array.from({ length: WORDS }, () => randomBytes(4).readInt32LE() | 1) as [
  number,
  number,
  number,
  number,
];

/** Remembers under which number an id came first. Two arrays that are used again and again, and nothing an id. */
export class IdTable {
  #words = new Int32Array(0);
  #numbers = new Int32Array(0);
  #mask = 0;

  /** Forgets all, and makes room for so many ids. */
  reset(ids: number): void {
    const slots = 2 ** Math.ceil(Math.log2(Math.max(2, ids * 2)));
    if (this.#numbers.length < slots) {
      this.#words = new Int32Array(slots * WORDS);
      this.#numbers = new Int32Array(slots);
    }
    this.#mask = slots - 1;
    this.#numbers.fill(FREE, 0, slots);
  }

  /** The number that the id at `offset` came under first: an earlier one, or `number` when it is new. */
  firstOf(records: Buffer, offset: number, number: number): number {
    const a = records.readInt32LE(offset);
    const b = records.readInt32LE(offset + 4);
    const c = records.readInt32LE(offset + 8);
    const d = records.readInt32LE(offset + 12);
    const mixed = Math.imul(a, A) ^ Math.imul(b, B) ^ Math.imul(c, C) ^ Math.imul(d, D);
    const hash = Math.imul(mixed ^ (mixed >>> 15), 0x9e3779b1);
    for (let slot = (hash ^ (hash >>> 15)) & this.#mask; ; slot = (slot + 1) & this.#mask) {
      const words = slot * WORDS;
      const found = this.#numbers[slot] as number;
      if (found === FREE) {
        this.#numbers[slot] = number;
        this.#words[words] = a;
        this.#words[words + 1] = b;
        this.#words[words + 2] = c;
        this.#words[words + 3] = d;
        return number;
      }
      if (
        this.#words[words] === a &&
        this.#words[words + 1] === b &&
        this.#words[words + 2] === c &&
        this.#words[words + 3] === d
      )
        return found;
    }
  }
}
