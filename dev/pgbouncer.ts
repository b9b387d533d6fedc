import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from './port-owner.ts';

/** Where its program is, or undefined when there is none: on the path, or Debian's. */
export function findPgBouncer(): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/sbin'];
  return folders.map((folder) => path.join(folder, 'pgbouncer')).find((file) => existsSync(file));
}

export type PgBouncerOptions = {
  /** A database on the server that it leads to, of the role that may log in. */
  url: string;
  poolMode: 'session' | 'transaction';
};

/** Before a PostgreSQL on the loopback interface, set up as README says: it drops `options`, and says nothing. */
export class PgBouncer {
  readonly #binary: string;
  readonly #folder: string;
  readonly #port: number;
  #process: ChildProcess | undefined;
  readonly #killAtExit = () => void this.#process?.kill('SIGKILL');

  private constructor(binary: string, folder: string, port: number) {
    this.#binary = binary;
    this.#folder = folder;
    this.#port = port;
  }

  static async start(binary: string, { url, poolMode }: PgBouncerOptions): Promise<PgBouncer> {
    const { username, port: serverPort } = new URL(url);
    const folder = mkdtempSync(path.join(tmpdir(), 'pgbouncer-'));
    chmodSync(folder, 0o755);
    const [port = 0] = await freePorts(1);
    const users = path.join(folder, 'users.txt');
    writeFileSync(users, `"${username}" ""\n`);
    writeFileSync(
      path.join(folder, 'pgbouncer.ini'),
      `[databases]
* = host=127.0.0.1 port=${serverPort}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = ${poolMode}
default_pool_size = 10
server_login_retry = 1
query_wait_timeout = 5
ignore_startup_parameters = options
`,
    );
    const pooler = new PgBouncer(binary, folder, port);
    process.once('exit', pooler.#killAtExit);
    await pooler.up();
    return pooler;
  }

  /** The same database, through it. */
  through(url: string): string {
    return Object.assign(new URL(url), { port: this.#port }).href;
  }

  /** Starts it, also after {@link kill}. */
  async up(): Promise<void> {
    // As root it refuses to run.
    const asUser = process.getuid?.() === 0 ? ['-u', 'nobody'] : [];
    const settings = path.join(this.#folder, 'pgbouncer.ini');
    this.#process = spawn(this.#binary, [...asUser, settings], { stdio: 'ignore' });
    this.#process.on('error', () => {});
    const deadline = performance.now() + 10_000;
    for (;;) {
      try {
        const socket = net.connect(this.#port, '127.0.0.1');
        await once(socket, 'connect').finally(() => socket.destroy());
        return;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(50);
      }
    }
  }

  async kill(): Promise<void> {
    const process = this.#process;
    this.#process = undefined;
    if (!process || process.exitCode !== null) return;
    const ended = once(process, 'exit');
    process.kill('SIGKILL');
    await ended;
  }

  async stop(): Promise<void> {
    process.off('exit', this.#killAtExit);
    await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
