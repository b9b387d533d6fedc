import { createHash, randomUUID } from 'node:crypto';
import {
  closeSync,
  createReadStream,
  existsSync,
  fsyncSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { hostname, userInfo } from 'node:os';
import { type PlanEntry, planEntrySchema } from '@orders/consumer/dlq/plan-entry.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { z } from 'zod';

// A plan is a file of JSON lines: what it is for, one line per message, and a hash over all of that.

const headerSchema = z.object({
  plan: z.uuid(),
  version: z.literal(1),
  purpose: z.enum(['redrive', 'discard']),
  environment: z.string(),
  /** ARN of the dead-letter queue. */
  queue: z.string(),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
  by: z.string(),
  /** The options that chose the messages, as they were typed. */
  chosen: z.string(),
});
export type PlanHeader = z.infer<typeof headerSchema>;

const endSchema = z.object({ entries: z.int(), hash: z.string() });

/** Who is at the keyboard, as far as the machine knows. */
export const whoami = (): string => `${userInfo().username}@${hostname()}`;

/** Writes a plan. Until `finish` it has another name, so that half a plan is none. */
export class PlanWriter {
  readonly #file: string;
  readonly #fd: number;
  readonly #hash = createHash('sha256');
  #entries = 0;

  /** @throws {StartupError} the file is there already, or cannot be written */
  constructor(file: string, header: Omit<PlanHeader, 'plan' | 'version' | 'by'>) {
    if (existsSync(file)) throw new StartupError(`${file} is there already: a plan is never written over`);
    this.#file = file;
    try {
      // There are orders in it.
      this.#fd = openSync(this.#part, 'w', 0o600);
    } catch (cause) {
      throw new StartupError(`cannot write ${file}: ${(cause as Error).message}`, { cause });
    }
    this.#write({ plan: randomUUID(), version: 1, by: whoami(), ...header } satisfies PlanHeader);
  }

  get #part(): string {
    return `${this.#file}.part`;
  }

  add(entry: PlanEntry): void {
    this.#entries++;
    this.#write(entry);
  }

  finish(): void {
    this.#write({ entries: this.#entries, hash: this.#hash.digest('hex') } satisfies z.infer<
      typeof endSchema
    >);
    fsyncSync(this.#fd);
    closeSync(this.#fd);
    renameSync(this.#part, this.#file);
  }

  discard(): void {
    closeSync(this.#fd);
    rmSync(this.#part);
  }

  #write(json: object): void {
    const line = Buffer.from(`${JSON.stringify(json)}\n`);
    writeSync(this.#fd, line);
    if (!('hash' in json && 'entries' in json)) this.#hash.update(line);
  }
}

/** One message of a plan, without what is sent in its place: that stays in the file. */
export type PlannedLetter = Pick<PlanEntry, 'hash' | 'reason' | 'action' | 'orders'> & {
  offset: number;
  length: number;
};

export type Plan = PlanHeader & {
  file: string;
  /** By message id. */
  letters: ReadonlyMap<string, PlannedLetter>;
  /** The whole entry, read again. */
  entryOf: (letter: PlannedLetter) => PlanEntry;
  close: () => void;
};

/**
 * Reads a plan, a part at a time, and checks that nobody changed it.
 * @throws {StartupError} it is no plan, was altered or cut off, or has expired
 */
export async function readPlan(file: string, now = new Date()): Promise<Plan> {
  const altered = (why: string) => new StartupError(`${file} is not run: ${why}. Make a new plan`);
  const hash = createHash('sha256');
  const letters = new Map<string, PlannedLetter>();
  let header: PlanHeader | undefined;
  let end: z.infer<typeof endSchema> | undefined;
  for await (const { line, offset } of linesOf(file)) {
    const json = parse(line);
    if (end) throw altered('there is something behind its end');
    if (!header) {
      header = headerSchema.safeParse(json).data;
      if (!header) throw new StartupError(`${file} is no plan of this release`);
    } else {
      end = endSchema.safeParse(json).data;
      if (end) continue;
      const entry = planEntrySchema.safeParse(json).data;
      if (!entry) throw altered('it was altered');
      const { messageId, reason, action, orders } = entry;
      letters.set(messageId, { hash: entry.hash, reason, action, orders, offset, length: line.length });
    }
    hash.update(line).update('\n');
  }
  if (!header) throw new StartupError(`${file} is no plan of this release`);
  if (!end) throw altered('its end is missing');
  if (end.hash !== hash.digest('hex') || end.entries !== letters.size) throw altered('it was altered');
  if (new Date(header.expiresAt) < now) throw altered(`it expired at ${header.expiresAt}`);
  const fd = openSync(file, 'r');
  return {
    ...header,
    file,
    letters,
    entryOf: ({ offset, length }) => {
      const line = Buffer.alloc(length);
      readSync(fd, line, 0, length, offset);
      return planEntrySchema.parse(parse(line));
    },
    close: () => closeSync(fd),
  };
}

function parse(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString());
  } catch {
    return undefined;
  }
}

/** The lines of a file without their ends, and where each begins; the last one may lack its end. */
export async function* linesOf(file: string): AsyncGenerator<{ line: Buffer; offset: number }> {
  let parts: Buffer[] = [];
  let offset = 0;
  let length = 0;
  try {
    for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let to = chunk.indexOf(10); to !== -1; to = chunk.indexOf(10, from)) {
        const line = Buffer.concat([...parts, chunk.subarray(from, to)]);
        yield { line, offset };
        offset += line.length + 1;
        [parts, length, from] = [[], 0, to + 1];
      }
      parts.push(chunk.subarray(from));
      length += chunk.length - from;
    }
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === undefined) throw cause;
    throw new StartupError(`cannot read ${file}: ${(cause as Error).message}`, { cause });
  }
  if (length > 0) yield { line: Buffer.concat(parts), offset };
}
