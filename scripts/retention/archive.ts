import { createHash, type Hash } from 'node:crypto';
import { createReadStream, createWriteStream, existsSync, readdirSync, statSync } from 'node:fs';
import { open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { constants, createGunzip, createGzip, type Gunzip } from 'node:zlib';
import type { StoredOrder } from '@orders/consumer/domain/order-repository.ts';

/** What the archive holds is not what was written: a disk that lies, or somebody else at the file. */
export class ArchiveDamagedError extends Error {
  override readonly name = 'ArchiveDamagedError';
  readonly code = 'ARCHIVE_DAMAGED';
}

const NAME_IN_FOLDER = 'orders.ndjson.gz';
const STAMP = /^\d{8}T\d{9}Z$/;

/** `old.ndjson.gz` is `stem` and `extension`, from the first dot on. */
function partsOf(archive: string): { folder: string; stem: string; extension: string } {
  const isFolder = statSync(archive, { throwIfNoEntry: false })?.isDirectory();
  const file = isFolder ? path.join(archive, NAME_IN_FOLDER) : archive;
  const name = path.basename(file);
  const dot = name.indexOf('.', 1);
  const stem = dot === -1 ? name : name.slice(0, dot);
  return { folder: path.dirname(file), stem, extension: name.slice(stem.length) };
}

/** The file of the run that begins then: `old.gz` gives `old-20261127T001500123Z.gz`, a folder `orders-….ndjson.gz`. */
export function archiveOfRun(archive: string, beganAt: Date): string {
  const { folder, stem, extension } = partsOf(archive);
  return path.join(folder, `${stem}-${beganAt.toISOString().replaceAll(/[-:.]/g, '')}${extension}`);
}

/** The files of all runs that were told this archive, oldest first; the file of that name itself comes before them. */
export function archivesOf(archive: string): string[] {
  const { folder, stem, extension } = partsOf(archive);
  const runs = readdirSync(folder)
    .filter((name) => name.startsWith(`${stem}-`) && name.endsWith(extension))
    .filter((name) => STAMP.test(name.slice(stem.length + 1, name.length - extension.length)));
  const itself = path.join(folder, stem + extension);
  return [...(existsSync(itself) ? [itself] : []), ...runs.sort().map((name) => path.join(folder, name))];
}

/**
 * Writes a line of JSON for each order, under gzip. When it resolves, the file is on the disk under its name, and has
 * been read back: it holds what was given. Until then it has another name, and after a failure there is none.
 * @param file that does not exist yet
 * @returns how many orders; of none there is no file
 * @throws {ArchiveDamagedError} what is read back differs
 */
export async function writeArchive(file: string, pages: AsyncIterable<StoredOrder[]>): Promise<number> {
  if (existsSync(file)) throw new Error(`${file} is there already`);
  const temporary = `${file}.part`;
  const written = new Digest();
  try {
    const output = createWriteStream(temporary, { flags: 'wx', flush: true });
    await pipeline(written.through(linesOf(pages)), createGzip(), output);
    if (written.lines > 0) {
      const found = new Digest();
      for await (const _ of found.through(unpack(temporary)));
      if (!found.equals(written)) throw new ArchiveDamagedError(`${temporary} holds not what was written`);
      await rename(temporary, file);
      await sync(path.dirname(file));
    }
  } finally {
    await rm(temporary, { force: true });
  }
  return written.lines;
}

/** The lines of such a file, many at a time. */
export async function* readArchive(file: string): AsyncGenerator<string[]> {
  let rest = '';
  for await (const chunk of unpack(file).setEncoding('utf8')) {
    const lines: string[] = chunk.split('\n');
    lines[0] = rest + lines[0];
    rest = lines.pop() ?? '';
    if (lines.length > 0) yield lines;
  }
}

/** What begins the archive of one run, or of a page in earlier releases: RFC 1952, 2.3, without flags and time. */
const MEMBER = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0]);

/**
 * As {@link readArchive}, of a file that may be damaged: earlier releases wrote into one file, run after run, also
 * behind a part that was cut. Each part is read as far as that can be; where it was cut, its last line is none.
 * @param onUnreadable is told of how many bytes nothing could be read
 */
export async function* salvageArchive(
  file: string,
  onUnreadable: (bytes: number) => void,
): AsyncGenerator<string[]> {
  const starts = await membersIn(file);
  for (const [index, start] of starts.entries()) {
    const end = starts[index + 1] ?? statSync(file).size;
    // What is cut ends where it ends, and is no error.
    const gunzip = createGunzip({ finishFlush: constants.Z_SYNC_FLUSH });
    pipeline(createReadStream(file, { start, end: Math.max(start, end - 1) }), gunzip).catch(() => {});
    let rest = '';
    try {
      for await (const chunk of gunzip.setEncoding('utf8')) {
        const lines: string[] = chunk.split('\n');
        lines[0] = rest + lines[0];
        rest = lines.pop() ?? '';
        if (lines.length > 0) yield lines;
      }
    } catch (error) {
      if (!isDamage(error)) throw error;
      onUnreadable(end - start - gunzip.bytesWritten);
    }
    if (rest !== '') yield [rest];
  }
}

const isDamage = (error: unknown) => /^Z_/.test(String((error as NodeJS.ErrnoException).code));

async function membersIn(file: string): Promise<number[]> {
  const starts = [0];
  let position = 0;
  let carried: Buffer = Buffer.alloc(0);
  for await (const chunk of createReadStream(file) as AsyncIterable<Buffer>) {
    const bytes = Buffer.concat([carried, chunk]);
    const offset = position - carried.length;
    for (let at = bytes.indexOf(MEMBER); at >= 0; at = bytes.indexOf(MEMBER, at + 1))
      if (offset + at > 0) starts.push(offset + at);
    position += chunk.length;
    carried = bytes.subarray(-(MEMBER.length - 1));
  }
  return starts;
}

function unpack(file: string): Gunzip {
  const gunzip = createGunzip();
  // A failure destroys the stream that is read, and so reaches its reader.
  pipeline(createReadStream(file), gunzip).catch(() => {});
  return gunzip;
}

async function* linesOf(pages: AsyncIterable<StoredOrder[]>): AsyncGenerator<Buffer> {
  for await (const orders of pages)
    yield Buffer.from(orders.map((order) => `${JSON.stringify(order)}\n`).join(''));
}

/** What passed through: how many lines, and their hash. */
class Digest {
  lines = 0;
  readonly #hash: Hash = createHash('sha256');

  async *through(chunks: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    for await (const chunk of chunks) {
      this.#hash.update(chunk);
      for (let at = chunk.indexOf('\n'); at >= 0; at = chunk.indexOf('\n', at + 1)) this.lines++;
      yield chunk;
    }
  }

  equals(other: Digest): boolean {
    return this.lines === other.lines && this.#hash.digest('hex') === other.#hash.digest('hex');
  }
}

/** The name of a file is in its folder, which is written by itself. */
async function sync(folder: string): Promise<void> {
  await using handle = await open(folder, 'r');
  await handle.sync();
}
