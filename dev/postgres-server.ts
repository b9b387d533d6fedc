import { type ChildProcess, execFile, execFileSync, spawn, spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chownSync,
  existsSync,
  mkdtempSync,
  openSync,
  readdirSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePorts } from './port-owner.ts';

const run = promisify(execFile);

/** Small, so that a fault can use them up. */
const MAX_CONNECTIONS = 30;
const START_TIMEOUT_MS = 20_000;
const SUPERUSER = 'postgres';
/** The services' role: no superuser, as in production. */
const ROLE = 'orders';

const DEBIAN_FOLDER = '/usr/lib/postgresql';

/** Where the server's binaries are, or undefined when there are none: behind a `postgres` on the path, or Debian's. */
export function findPostgres(): string | undefined {
  const onPath = (process.env['PATH'] ?? '')
    .split(path.delimiter)
    .map((folder) => path.join(folder, 'postgres'))
    .filter((binary) => existsSync(binary))
    .map((binary) => path.dirname(realpathSync(binary)));
  const versions = existsSync(DEBIAN_FOLDER) ? readdirSync(DEBIAN_FOLDER).sort().reverse() : [];
  const folders = [...onPath, ...versions.map((version) => path.join(DEBIAN_FOLDER, version, 'bin'))];
  return folders.find((folder) =>
    ['initdb', 'postgres', 'psql'].every((binary) => existsSync(path.join(folder, binary))),
  );
}

/** A PostgreSQL of one's own on the loopback interface, that can be ill-treated. */
export class PostgresServer {
  readonly #binaries: string;
  readonly #folder: string;
  readonly #port: number;
  /** PostgreSQL refuses to run as root: an unprivileged user of the system, then. */
  readonly #user: { uid: number; gid: number } | undefined;
  #server: ChildProcess | undefined;
  readonly #killAtExit = () => void this.#server?.kill('SIGQUIT');

  private constructor(
    binaries: string,
    folder: string,
    port: number,
    user: { uid: number; gid: number } | undefined,
  ) {
    this.#binaries = binaries;
    this.#folder = folder;
    this.#port = port;
    this.#user = user;
  }

  /** @param durable whether commits reach the disk; else only the machine itself is taken not to crash */
  static async start(binaries: string, { durable = false } = {}): Promise<PostgresServer> {
    const folder = mkdtempSync(path.join(tmpdir(), 'faults-postgres-'));
    const user = process.getuid?.() === 0 ? { uid: idOf('-u'), gid: idOf('-g') } : undefined;
    if (user) chownSync(folder, user.uid, user.gid);
    const data = path.join(folder, 'data');
    const options = ['-D', data, '-U', SUPERUSER, '-A', 'trust', '--no-sync', '-E', 'UTF8', '--locale=C'];
    execFileSync(path.join(binaries, 'initdb'), options, { ...user, cwd: folder, stdio: 'ignore' });
    // synchronous_commit and all else stay as they are.
    const settings = [`max_connections = ${MAX_CONNECTIONS}`, 'superuser_reserved_connections = 5'];
    if (!durable) settings.push('fsync = off');
    appendFileSync(path.join(data, 'postgresql.conf'), `\n${settings.join('\n')}\n`);
    const [port = 0] = await freePorts(1);
    const server = new PostgresServer(binaries, folder, port, user);
    process.once('exit', server.#killAtExit);
    await server.up();
    await server.sql(`CREATE ROLE ${ROLE} LOGIN`);
    return server;
  }

  /** A new, empty database, and its URL. */
  async createDatabase(name: string): Promise<string> {
    await this.sql(`CREATE DATABASE ${name} OWNER ${ROLE}`);
    return `postgres://${ROLE}@127.0.0.1:${this.#port}/${name}`;
  }

  async dropDatabase(name: string): Promise<void> {
    await this.sql(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`);
  }

  /** Runs statements as superuser and answers the lines of their results. */
  async sql(statements: string, database = 'postgres'): Promise<string[]> {
    const connection = ['-h', '127.0.0.1', '-p', String(this.#port), '-U', SUPERUSER, '-d', database];
    const { stdout } = await run(
      path.join(this.#binaries, 'psql'),
      ['-XAtq', '-v', 'ON_ERROR_STOP=1', ...connection, '-c', statements],
      { maxBuffer: 256 * 1024 * 1024 },
    );
    return stdout.split('\n').filter((line) => line !== '');
  }

  /** Takes the connections that are left, those of the services among them, until the answer is called. */
  async takeConnections(database: string): Promise<() => Promise<void>> {
    const connection = ['-h', '127.0.0.1', '-p', String(this.#port), '-U', ROLE, '-d', 'postgres'];
    const holders = Array.from({ length: MAX_CONNECTIONS }, () =>
      spawn(path.join(this.#binaries, 'psql'), ['-Xq', ...connection, '-c', 'SELECT pg_sleep(60)'], {
        stdio: 'ignore',
      }),
    );
    await this.disconnect(database);
    return async () => {
      for (const holder of holders) holder.kill('SIGKILL');
      await this.sql(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)'`,
      );
    };
  }

  /** Ends the connections of the services. */
  async disconnect(database: string): Promise<void> {
    await this.sql(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '${database}' AND usename = '${ROLE}'`,
    );
  }

  /** SIGKILL to the server itself. Its children end when they notice. */
  async kill(): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server || server.exitCode !== null) return;
    const ended = new Promise((resolve) => server.once('exit', resolve));
    server.kill('SIGKILL');
    await ended;
  }

  /** SIGKILL to one backend: the server ends all others and recovers. Resolves with how many there were to kill: one or none. */
  async crashBackend(database: string): Promise<number> {
    const [pid] = await this.sql(
      `SELECT pid FROM pg_stat_activity WHERE datname = '${database}' AND usename = '${ROLE}' LIMIT 1`,
    );
    if (pid === undefined) return 0;
    process.kill(Number(pid), 'SIGKILL');
    return 1;
  }

  /** Starts it anew: all but the superuser sign in by a password from now on. */
  async requirePasswords(): Promise<void> {
    const rules = [`host all ${SUPERUSER} 127.0.0.1/32 trust`, 'host all all 127.0.0.1/32 scram-sha-256'];
    writeFileSync(path.join(this.#folder, 'data', 'pg_hba.conf'), `${rules.join('\n')}\n`);
    await this.kill();
    await this.up();
  }

  /** Starts it anew with that key and certificate; connections without TLS are answered, too. */
  async useTls({ key, cert, only }: { key: string; cert: string; only?: 'TLSv1.1' }): Promise<void> {
    for (const [name, pem] of Object.entries({ key, cert })) {
      const file = path.join(this.#folder, `${name}.pem`);
      writeFileSync(file, pem, { mode: 0o600 });
      if (this.#user) chownSync(file, this.#user.uid, this.#user.gid);
      await this.sql(`ALTER SYSTEM SET ssl_${name}_file = '${file}'`);
    }
    await this.sql('ALTER SYSTEM SET ssl = on');
    if (only) {
      for (const end of ['min', 'max'])
        await this.sql(`ALTER SYSTEM SET ssl_${end}_protocol_version = '${only}'`);
      await this.sql("ALTER SYSTEM SET ssl_ciphers = 'DEFAULT:@SECLEVEL=0'");
    }
    await this.kill();
    await this.up();
  }

  /** Starts it, if need be again and again until what was killed is gone, and resolves when it answers. */
  async up(): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      if (!this.#server || this.#server.exitCode !== null) this.#launch();
      try {
        await this.sql('SELECT 1');
        return;
      } catch (error) {
        if (performance.now() > deadline) throw error;
        await sleep(100);
      }
    }
  }

  async stop(): Promise<void> {
    process.off('exit', this.#killAtExit);
    await this.kill();
    for (let attempt = 0; ; attempt++) {
      try {
        return rmSync(this.#folder, { recursive: true, force: true });
      } catch (error) {
        // Its children still write.
        if (attempt >= 20) throw error;
        await sleep(100);
      }
    }
  }

  #launch(): void {
    const log = openSync(path.join(this.#folder, 'server.log'), 'a');
    this.#server = spawn(
      path.join(this.#binaries, 'postgres'),
      [
        '-D',
        path.join(this.#folder, 'data'),
        '-h',
        '127.0.0.1',
        '-p',
        String(this.#port),
        '-k',
        this.#folder,
      ],
      { ...this.#user, cwd: this.#folder, stdio: ['ignore', log, log] },
    );
    this.#server.on('error', () => {});
  }
}

function idOf(option: '-u' | '-g'): number {
  for (const user of ['postgres', 'nobody']) {
    const { stdout, status } = spawnSync('id', [option, user], { encoding: 'utf8' });
    if (status === 0) return Number(stdout);
  }
  throw new Error('no unprivileged user to run PostgreSQL as');
}
