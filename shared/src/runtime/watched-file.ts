import { closeSync, fstatSync, openSync, readFileSync, type Stats, statSync } from 'node:fs';

const LOOK_EVERY_MS = 2_000;

/**
 * What a file holds, read again when the file changes; also when it is replaced by a rename or a link, as Kubernetes does
 * with mounted secrets. What cannot be read or parsed changes nothing: the value before stays, and `onError` is told once
 * per change.
 */
export class WatchedFile<T> {
  readonly #file: string;
  readonly #parse: (text: string) => T;
  readonly #timer: NodeJS.Timeout;
  #value: T;
  /** Of the file as it was read last. */
  #version = '';

  /** @throws what keeps it from being read or parsed at first */
  constructor(
    file: string,
    parse: (text: string) => T,
    {
      onChange = () => {},
      onError,
      lookEveryMs = LOOK_EVERY_MS,
    }: { onChange?: () => void; onError: (error: unknown) => void; lookEveryMs?: number },
  ) {
    this.#file = file;
    this.#parse = parse;
    this.#value = this.#read();
    this.#timer = setInterval(() => {
      const version = versionAt(file);
      if (version === this.#version) return;
      this.#version = version;
      try {
        this.#value = this.#read();
        onChange();
      } catch (error) {
        onError(error);
      }
    }, lookEveryMs);
  }

  get value(): T {
    return this.#value;
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #read(): T {
    const file = openSync(this.#file, 'r');
    try {
      this.#version = versionOf(fstatSync(file));
      return this.#parse(readFileSync(file, 'utf8'));
    } finally {
      closeSync(file);
    }
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
