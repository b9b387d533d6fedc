import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { CDNOW_HEADER, CDNOW_ROW, cdnowOrder } from './cdnow.ts';

/** A line of the file that is no order, by its number from 1 on. */
export class UnreadableLineError extends Error {
  override readonly name = 'UnreadableLineError';
  readonly code = 'UNREADABLE_LINE';
  readonly line: number;

  constructor(line: number, cause: unknown) {
    super(`line ${line}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
    this.line = line;
  }
}

/** The file is in no format that is known. */
export class UnknownFormatError extends Error {
  override readonly name = 'UnknownFormatError';
  readonly code = 'UNKNOWN_FORMAT';
}

/** A line read: the object in it, which the producer judges, or why there is none. */
export type OrderLine = { line: number; order: object } | { line: number; error: UnreadableLineError };

const MAX_QUOTED = 40;

type ReadLine = (text: string, row: number) => unknown;

/**
 * Reads orders, line by line: NDJSON of our order format, or the CDNOW purchases. Empty lines are passed over.
 * An unreadable line is reported with its number and does not end the reading; it counts towards `limit`.
 * @throws {UnknownFormatError} and what the file system throws
 */
export async function* readOrders(
  file: string,
  { limit }: { limit?: number } = {},
): AsyncGenerator<OrderLine> {
  const input = createReadStream(file, 'utf8');
  const lines = createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY });
  let read: ReadLine | undefined;
  let line = 0;
  let row = 0;
  try {
    for await (const raw of lines) {
      line++;
      const text = raw.replace(/^\uFEFF/, '').trim();
      if (text === '') continue;
      if (!read) {
        read = formatOf(file, text);
        if (CDNOW_HEADER.test(text)) continue;
      }
      if (row >= (limit ?? Number.POSITIVE_INFINITY)) return;
      row++;
      yield readLine(read, text, line, row);
    }
  } finally {
    lines.close();
    input.destroy();
  }
}

function readLine(read: ReadLine, text: string, line: number, row: number): OrderLine {
  try {
    const order = read(text, row);
    if (typeof order !== 'object' || order === null || Array.isArray(order))
      throw new Error(`no order, but ${JSON.stringify(order).slice(0, MAX_QUOTED)}`);
    return { line, order };
  } catch (cause) {
    return { line, error: new UnreadableLineError(line, cause) };
  }
}

function formatOf(file: string, firstLine: string): ReadLine {
  if (CDNOW_HEADER.test(firstLine) || CDNOW_ROW.test(firstLine)) return cdnowOrder;
  if (firstLine.startsWith('{') || /\.(ndjson|jsonl)$/.test(file)) return (text) => JSON.parse(text);
  throw new UnknownFormatError(
    `${file} is neither NDJSON of orders (one JSON object a line) nor CDNOW purchases (customer_id date number_of_cds dollar_value)`,
  );
}
