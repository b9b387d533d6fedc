import {
  closeSync,
  existsSync,
  fdatasyncSync,
  fstatSync,
  openSync,
  readSync,
  statSync,
  writeSync,
} from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { z } from 'zod';
import { linesOf, type Plan, whoami } from './plan-file.ts';

/**
 * What a run did with a message: SENDING before it is sent, SENT when the order queue has it, MOVED when it is deleted from
 * the dead-letter queue, then its outcome; DISCARDING and DISCARDED of one that is only deleted. Of a run as a whole: BEGAN and ENDED.
 */
const RESULTS = [
  ...[
    'BEGAN',
    'SENDING',
    'SENT',
    'MOVED',
    'STORED',
    'DUPLICATE',
    'REJECTED',
    'DISCARDING',
    'DISCARDED',
    'ENDED',
  ],
] as const;

const lineSchema = z.object({
  at: z.iso.datetime(),
  by: z.string(),
  plan: z.string(),
  result: z.enum(RESULTS),
  /** In the dead-letter queue. */
  messageId: z.string().optional(),
  /** Hashes of the message as it was, and of the body that was sent. */
  before: z.string().optional(),
  after: z.string().optional(),
  /** SENDING: its orders were stored already. */
  wasStored: z.boolean().optional(),
  /** SENT: its id in the order queue. */
  as: z.string().optional(),
  /** REJECTED: the code; DISCARDING: what the operator said; ENDED: the account. */
  reason: z.string().optional(),
});
type Line = z.infer<typeof lineSchema>;

/** Where a message is, by the last lines about it. */
export type JournalState = Pick<Line, 'result' | 'wasStored' | 'as' | 'reason'>;

/**
 * What was done by a plan, to go on after a crash and to be audited: one file beside it, to which lines are added and
 * never changed. Nothing is moved of which the line is not on the disk.
 */
export class Journal {
  readonly file: string;
  readonly #plan: Pick<Plan, 'plan'>;
  readonly #fd: number;
  readonly states: ReadonlyMap<string, JournalState>;
  readonly #lock: DatabaseSync;

  private constructor(plan: Plan, fd: number, states: Map<string, JournalState>, lock: DatabaseSync) {
    this.file = journalOf(plan);
    this.#plan = plan;
    this.#fd = fd;
    this.states = states;
    this.#lock = lock;
  }

  /** @throws {StartupError} it cannot be written, is another plan's, or another process runs the plan */
  static async open(plan: Plan): Promise<Journal> {
    const lock = lockOf(plan);
    const file = journalOf(plan);
    const states = new Map<string, JournalState>();
    try {
      if (existsSync(file)) {
        for await (const { line } of linesOf(file)) {
          const read = lineSchema.safeParse(parse(line)).data;
          // Half a line: what it was about was not done.
          if (!read) continue;
          if (read.plan !== plan.plan) throw new StartupError(`${file} is the journal of another plan`);
          if (read.messageId) states.set(read.messageId, { ...states.get(read.messageId), ...read });
        }
      }
      const fd = openForAppending(file);
      const journal = new Journal(plan, fd, states, lock);
      journal.append([{ result: 'BEGAN' }]);
      return journal;
    } catch (error) {
      lock.close();
      throw error;
    }
  }

  /**
   * Returns when the lines are on the disk where they say what is about to be done, or else with the operating system.
   * @throws {StartupError} they cannot be written, or somebody removed the file
   */
  append(lines: readonly Omit<Line, 'at' | 'by' | 'plan'>[]): void {
    const common = { at: new Date().toISOString(), by: whoami(), plan: this.#plan.plan };
    try {
      const [open, named] = [fstatSync(this.#fd), statSync(this.file)];
      if (open.ino !== named.ino) throw new Error('it was replaced');
      writeSync(this.#fd, lines.map((line) => `${JSON.stringify({ ...common, ...line })}\n`).join(''));
      if (lines.some(({ result }) => result.endsWith('ING'))) fdatasyncSync(this.#fd);
    } catch (cause) {
      throw notWritten(this.file, cause);
    }
    for (const { messageId, ...state } of lines)
      if (messageId)
        (this.states as Map<string, JournalState>).set(messageId, {
          ...this.states.get(messageId),
          ...state,
        });
  }

  close(): void {
    closeSync(this.#fd);
    this.#lock.close();
  }
}

const journalOf = ({ file }: Pick<Plan, 'file'>) => `${file}.journal.ndjson`;

const notWritten = (file: string, cause: unknown) =>
  new StartupError(
    `nothing is moved: ${file}, which says what was done, cannot be written (${String(cause)})`,
    {
      cause,
    },
  );

/** What is added does not continue a line that a crash cut off. */
function openForAppending(file: string): number {
  try {
    const fd = openSync(file, 'a+', 0o600);
    const { size } = fstatSync(fd);
    const last = Buffer.alloc(1);
    if (size > 0) readSync(fd, last, 0, 1, size - 1);
    if (size > 0 && last[0] !== 10) writeSync(fd, '\n');
    return fd;
  } catch (cause) {
    throw notWritten(file, cause);
  }
}

function parse(line: Buffer): unknown {
  try {
    return JSON.parse(line.toString());
  } catch {
    return undefined;
  }
}

/** Held by this process alone, and free again when it ends, however it ends: SQLite leaves that to the system. */
function lockOf({ file }: Pick<Plan, 'file'>): DatabaseSync {
  const lock = new DatabaseSync(`${file}.lock`, { timeout: 0 });
  try {
    lock.exec('BEGIN EXCLUSIVE');
    return lock;
  } catch (cause) {
    lock.close();
    throw new StartupError(`another process runs ${file}`, { cause });
  }
}
