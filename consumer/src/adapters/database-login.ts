import {
  parseSecretWord,
  SecretFile,
  type SecretName,
  type SecretObserver,
} from '@orders/shared/runtime/secret-file.ts';
import { Client, type ClientConfig, DatabaseError } from 'pg';

type Login = { user: string | undefined; password: string };

/** Invalid authorization specification, invalid password: https://www.postgresql.org/docs/current/errcodes-appendix.html */
const REFUSALS = new Set(['28000', '28P01']);
const isRefusal = (error: unknown) => error instanceof DatabaseError && REFUSALS.has(error.code ?? '');

/**
 * With which user and password connections are opened: those in the URL, or those in files at that time. If PostgreSQL
 * refuses what is in the files, then what it accepted last stays in force until they change: a file may be half-written, or
 * come before the database knows the password in it.
 */
export class DatabaseLogin {
  /** Without the names of files. */
  readonly url: string;
  /** pg's client, which signs in with what is in force when it is made. */
  readonly Client: typeof Client;
  readonly #observer: SecretObserver;
  readonly #user: SecretFile<string> | undefined;
  readonly #password: SecretFile<string> | undefined;
  /** The last one that opened a connection. */
  #accepted: Login | undefined;
  /** What is in the files, if PostgreSQL refused it last. */
  #refused: Login | undefined;

  /**
   * @param url with `userfile` and `passwordfile` among its parameters, if there are files; pg is not shown them
   * @throws {StartupError} a file cannot be used
   */
  constructor(url: string, observer: SecretObserver = {}) {
    const bare = new URL(url);
    const take = (name: string) => {
      const file = bare.searchParams.get(name);
      bare.searchParams.delete(name);
      return file;
    };
    const [userFile, passwordFile] = [take('userfile'), take('passwordfile')];
    const open = (file: string | null, secret: SecretName, variable: string) =>
      file === null
        ? undefined
        : new SecretFile({ ...observer, secret, variable, file, parse: parseSecretWord });
    this.#observer = observer;
    this.#user = open(userFile, 'database-user', 'DATABASE_USER_FILE');
    try {
      this.#password = open(passwordFile, 'database-password', 'DATABASE_PASSWORD_FILE');
    } catch (error) {
      this.close();
      throw error;
    }
    this.url = this.#password ? bare.href : url;
    this.Client = this.#password ? this.#clientWithFiles(this.#password) : Client;
  }

  /** Opens a connection; where the login is refused, once more, with what is in force then. */
  async connect<T>(open: () => Promise<T>): Promise<T> {
    try {
      return await open();
    } catch (error) {
      if (!this.#password || !isRefusal(error)) throw error;
      return open();
    }
  }

  close(): void {
    this.#user?.close();
    this.#password?.close();
  }

  #clientWithFiles(password: SecretFile<string>): typeof Client {
    const login = this;
    return class extends Client {
      readonly #used: Login;

      constructor(config: ClientConfig) {
        const used = login.#inForce(password);
        super({ ...config, connectionString: withLogin(config.connectionString ?? '', used) });
        this.#used = used;
      }

      // As pg's own. Its callback is called at once: the pool listens for errors from then on.
      override connect(): Promise<this>;
      override connect(callback: (error: Error) => void): void;
      override connect(callback?: (error: Error) => void): Promise<this> | undefined {
        if (!callback)
          return new Promise((resolve, reject) =>
            this.connect((error) => (error ? reject(error) : resolve(this))),
          );
        super.connect((error: Error | null) => {
          if (!error) login.#accept(this.#used);
          else if (isRefusal(error)) login.#refuse(this.#used, password);
          (callback as (error: Error | null, client: this) => void)(error, this);
        });
        return undefined;
      }
    };
  }

  #inForce(password: SecretFile<string>): Login {
    const login = { user: this.#user?.look(), password: password.look() };
    return this.#accepted && isSame(login, this.#refused) ? this.#accepted : login;
  }

  #accept(login: Login): void {
    this.#accepted = login;
    if (isSame(login, this.#refused)) this.#refused = undefined;
  }

  #refuse(login: Login, password: SecretFile<string>): void {
    if (isSame(login, this.#accepted)) this.#accepted = undefined;
    const inFiles = { user: this.#user?.look(true), password: password.look(true) };
    if (!isSame(login, inFiles) || isSame(login, this.#refused)) return;
    this.#refused = login;
    this.#observer.errors?.inc();
    this.#observer.logger?.error(
      { user: login.user },
      'PostgreSQL refuses the password in the file; the last one that it accepted stays in force',
    );
  }
}

const isSame = (one: Login, other: Login | undefined) =>
  one.user === other?.user && one.password === other?.password;

/** As parameters, which a URL without a host can have as well. */
function withLogin(connectionString: string, { user, password }: Login): string {
  const url = new URL(connectionString);
  if (user !== undefined) url.searchParams.set('user', user);
  url.searchParams.set('password', password);
  return url.href;
}
