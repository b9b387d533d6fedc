import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chownSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePorts } from './port-owner.ts';
import { unprivilegedUser } from './postgres-server.ts';

const START_TIMEOUT_MS = 10_000;
/** Debian's is where only root looks. */
const FOLDERS = [...(process.env['PATH'] ?? '').split(path.delimiter), '/usr/sbin'];

/** The program, or undefined when there is none. */
export function findPgBouncer(): string | undefined {
  return FOLDERS.map((folder) => path.join(folder, 'pgbouncer')).find((binary) => existsSync(binary));
}

export type PgBouncerOptions = {
  /** A database on the server that it leads to. */
  url: string;
  poolMode: 'session' | 'transaction';
  /** Roles that may log in; without passwords, as on a {@link PostgresServer}. */
  roles?: string[];
};

/** A PgBouncer of one's own on the loopback interface, set up as README says: it drops `options`, and says nothing. */
export class PgBouncer {
  readonly #program: ChildProcess;
  readonly #folder: string;
  readonly #port: number;

  private constructor(program: ChildProcess, folder: string, port: number) {
    this.#program = program;
    this.#folder = folder;
    this.#port = port;
  }

  static async start(
    binary: string,
    { url, poolMode, roles = ['orders'] }: PgBouncerOptions,
  ): Promise<PgBouncer> {
    const user = unprivilegedUser();
    const folder = mkdtempSync(path.join(tmpdir(), 'pgbouncer-'));
    const [port = 0] = await freePorts(1);
    const users = path.join(folder, 'users.txt');
    writeFileSync(users, roles.map((role) => `"${role}" ""\n`).join(''));
    const settings = path.join(folder, 'pgbouncer.ini');
    writeFileSync(
      settings,
      `[databases]
* = host=127.0.0.1 port=${new URL(url).port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = trust
auth_file = ${users}
pool_mode = ${poolMode}
ignore_startup_parameters = options
server_login_retry = 1
`,
    );
    if (user) for (const each of [folder, users, settings]) chownSync(each, user.uid, user.gid);
    const program = spawn(binary, ['-q', settings], { ...user, cwd: folder, stdio: 'ignore' });
    const pooler = new PgBouncer(program, folder, port);
    await pooler.#up();
    return pooler;
  }

  /** The same database, through it. */
  through(url: string): string {
    return Object.assign(new URL(url), { port: this.#port }).href;
  }

  async stop(): Promise<void> {
    if (this.#program.exitCode === null && this.#program.signalCode === null) {
      const exited = once(this.#program, 'exit');
      this.#program.kill('SIGKILL');
      await exited;
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #up(): Promise<void> {
    const giveUpAt = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      const socket = connect(this.#port, '127.0.0.1');
      try {
        await once(socket, 'connect');
        return;
      } catch (error) {
        if (performance.now() > giveUpAt || this.#program.exitCode !== null) throw error;
        await sleep(50);
      } finally {
        socket.destroy();
      }
    }
  }
}
