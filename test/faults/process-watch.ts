import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';

/** A service, as far as this watches it. */
type Watched = { name: string; pid: number | undefined; isReady: () => Promise<boolean> };

const SAMPLE_MS = 200;
/** A second of them: what comes and goes within it is no leak. */
const LAST_SAMPLES = 5;
/** Three seconds of them. What ends sooner has hardly done anything. */
const MIN_SAMPLES = 15;

/** Files, sockets among them, that a process has open, as the kernel tells; undefined where it does not. */
export function countOpenFiles(pid: number | undefined): number | undefined {
  const folder = `/proc/${pid}/fd`;
  try {
    return existsSync(folder) ? readdirSync(folder).length : undefined;
  } catch {
    return undefined; // It has just ended.
  }
}

/** The most memory that a process had at once so far (`VmHWM`), as the kernel tells; undefined where it does not. */
export function peakBytes(pid: number | undefined): number | undefined {
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    const kibibytes = /^VmHWM:\s+(\d+) kB$/m.exec(status)?.[1];
    return kibibytes === undefined ? undefined : Number(kibibytes) * 1_024;
  } catch {
    return undefined; // It has just ended, or there is no such folder.
  }
}

/**
 * Looks at each process of some services: at its memory from its start until its end, and at what it has open from when it
 * is ready.
 */
export class ProcessWatch {
  readonly #samples = new Map<string, number[]>();
  readonly #peaks = new Map<string, number>();
  readonly #survivors = new Set<string>();
  readonly #sampleMs: number;

  /** @param sampleMs between two counts; by default five a second */
  constructor(sampleMs = SAMPLE_MS) {
    this.#sampleMs = sampleMs;
  }

  /** Resolves after `stop`. */
  async watch(services: readonly Watched[], stop: AbortSignal): Promise<void> {
    await Promise.all(services.map((service) => this.#watchOne(service, stop)));
  }

  /** By process, the most memory that it had at once, in bytes. */
  peaks(): Record<string, number> {
    return Object.fromEntries(this.#peaks);
  }

  /**
   * By process that ran until the watch was stopped: the least of its last five counts, less its first one. Only of those
   * that were counted 15 times: at five a second, the last second of those that were ready for three. What a process has
   * open that was ended before, under load, are its clients' connections, and tells nothing.
   */
  growths(): Record<string, number> {
    const lives = [...this.#samples].filter(
      ([name, samples]) => this.#survivors.has(name) && samples.length >= MIN_SAMPLES,
    );
    return Object.fromEntries(
      lives.map(([name, samples]) => [
        name,
        Math.min(...samples.slice(-LAST_SAMPLES)) - (samples[0] as number),
      ]),
    );
  }

  async #watchOne(service: Watched, stop: AbortSignal): Promise<void> {
    for (; !stop.aborted; await sleep(this.#sampleMs)) {
      const { pid } = service;
      const name = `${service.name} (pid ${pid})`;
      const peak = peakBytes(pid);
      if (peak !== undefined && service.pid === pid) this.#peaks.set(name, peak);
      if (!this.#samples.has(name) && !(await service.isReady())) continue;
      const count = countOpenFiles(pid);
      if (count === undefined || service.pid !== pid) continue;
      const samples = this.#samples.get(name) ?? [];
      samples.push(count);
      this.#samples.set(name, samples);
    }
    this.#survivors.add(`${service.name} (pid ${service.pid})`);
  }
}
