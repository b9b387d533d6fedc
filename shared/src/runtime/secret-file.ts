import { closeSync, constants, fstatSync, openSync, readFileSync, type Stats, statSync } from 'node:fs';
import type { Logger } from './logger.ts';
import { StartupError } from './startup-error.ts';

const LOOK_EVERY_MS = 2_000;
/** Of a Kubernetes Secret; those of AWS are smaller. */
const MAX_BYTES = 1_048_576;

/** What a process is given in a file, as metrics and logs name it. */
export type SecretName = 'api-keys' | 'encryption-keys' | 'database-user' | 'database-password';

/** Who hears of a file that changes. */
export type SecretObserver = {
  logger?: Pick<Logger, 'info' | 'error'> | undefined;
  /** Counts changes that could not be used. */
  errors?: { inc: () => void } | undefined;
  observeAge?: ((secret: SecretName, ageSeconds: () => number) => void) | undefined;
};

export type SecretFileOptions<T> = SecretObserver & {
  secret: SecretName;
  /** The variable that names the file. */
  variable: string;
  file: string;
  /** @throws an error that repeats nothing of the text */
  parse: (text: string) => T;
  lookEveryMs?: number;
};

/**
 * A secret in a file, read again when the file changes; also when it is replaced by a rename or a link, as Kubernetes does
 * with mounted secrets. What cannot be read or parsed changes nothing: the value before stays in force, with one error
 * line and one count per change.
 */
export class SecretFile<T> {
  readonly #options: SecretFileOptions<T>;
  readonly #timer: NodeJS.Timeout;
  #value: T;
  /** Of the file as it was read last. */
  #version = '';
  #modifiedAtMs = 0;

  /** @throws {StartupError} naming the variable, and what keeps the file from being read or parsed at first */
  constructor(options: SecretFileOptions<T>) {
    const { secret, variable, file, observeAge, lookEveryMs = LOOK_EVERY_MS } = options;
    this.#options = options;
    try {
      this.#value = this.#read();
    } catch (cause) {
      throw new StartupError(`${variable}: ${file}: ${(cause as Error).message}`, { cause });
    }
    this.#timer = setInterval(() => this.look(), lookEveryMs);
    observeAge?.(secret, () => Math.max(0, Date.now() - this.#modifiedAtMs) / 1_000);
  }

  get value(): T {
    return this.#value;
  }

  /** Reads the file now, if it has changed; `anyway`, also if it seems not to have. */
  look(anyway = false): T {
    const { secret, file, logger, errors } = this.#options;
    const version = versionAt(file);
    const isChanged = version !== this.#version;
    if (!isChanged && !anyway) return this.#value;
    this.#version = version;
    try {
      this.#value = this.#read();
      if (isChanged) logger?.info({ secret, file }, 'secret read again');
    } catch (err) {
      if (isChanged) {
        errors?.inc();
        logger?.error(
          { err, secret, file },
          'the file of a secret cannot be used; the value before stays in force',
        );
      }
    }
    return this.#value;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #read(): T {
    // What is no file, such as a pipe, must not keep us waiting.
    const file = openSync(this.#options.file, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stats = fstatSync(file);
      this.#version = versionOf(stats);
      if (!stats.isFile()) throw new Error('it is no file');
      if (stats.size > MAX_BYTES) throw new Error(`it is larger than ${MAX_BYTES} bytes`);
      const value = this.#options.parse(decode(readFileSync(file)));
      this.#modifiedAtMs = stats.mtimeMs;
      return value;
    } finally {
      closeSync(file);
    }
  }
}

function decode(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    throw new Error('it is not in UTF-8');
  }
}

function versionAt(file: string): string {
  try {
    return versionOf(statSync(file));
  } catch {
    return 'missing';
  }
}

const versionOf = ({ dev, ino, size, mtimeMs, ctimeMs }: Stats): string =>
  [dev, ino, size, mtimeMs, ctimeMs].join();

const MAX_WORD_LENGTH = 1_024;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what is looked for
const CONTROL_CHARACTER = /[\0-\x1f\x7f]/;

/**
 * A user's name or a password that is the whole file. The end of its line is not part of it, since editors and `echo`
 * write one.
 * @throws an error that repeats nothing of it
 */
export function parseSecretWord(text: string): string {
  const word = text.replace(/\r?\n$/, '');
  if (word === '') throw new Error('it is empty');
  if (word.length > MAX_WORD_LENGTH) throw new Error(`it is longer than ${MAX_WORD_LENGTH} characters`);
  if (CONTROL_CHARACTER.test(word)) throw new Error('it holds a control character, or more than one line');
  return word;
}
