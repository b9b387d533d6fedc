import path from 'node:path';
import { parseArgs } from 'node:util';
import { loadDotenv } from '@orders/shared/runtime/dotenv.ts';
import { watchParent } from '@orders/shared/runtime/parent.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { z } from 'zod';

/** An option of a command. One that takes no value is a switch, and off by default. */
export type Option<S extends z.ZodType = z.ZodType> = {
  /** What stands for its value in the usage. */
  takes?: string;
  description: string;
  /** Reads the text, or `undefined` where the option was not given. */
  schema: S;
  /** May be given more than once: `schema` reads an array. */
  repeated?: true;
  /** Values of the first positional that it belongs to; all where left out. */
  only?: readonly string[];
};

export type Positional<S extends z.ZodType = z.ZodType> = {
  /** One text, or one for each of the values that it may have. */
  description: string | Readonly<Record<string, string>>;
  /** An array takes all that is left. */
  schema: S;
  /** Values of the first positional that it belongs to; all where left out. */
  only?: readonly string[];
};

/** All that is known of a command line: it is parsed by this, and its usage and docs/commands.md are written from it. */
export type Command<
  P extends Record<string, Positional> = Record<string, Positional>,
  O extends Record<string, Option> = Record<string, Option>,
> = {
  /** As one types it. */
  name: string;
  summary: string;
  /** In their order; an optional one is left out where the next word is none of its values. */
  positionals: P;
  options: O;
  /** Besides 2, which means wrong usage everywhere, unless a command has more to say about it. */
  exitStatuses: Readonly<Record<number, string>>;
  /** What of the world is another afterwards. */
  changes: string;
  /** Variables and rights. */
  needs?: string;
  /** Exit status of a failure; 1 unless that means something else. */
  failureStatus?: number;
  /** For those who change this project: not steered by a developer's `.env`, and fails with a stack trace. */
  forContributors?: true;
};

type Read<T extends Record<string, { schema: z.ZodType }>> = { [K in keyof T]: z.infer<T[K]['schema']> };

export type ValuesOf<C> = C extends Command<infer P, infer O> ? Read<P> & Read<O> : never;

/** The command was called wrongly. Exit status 2, with the usage. */
export class UsageError extends Error {}

export function defineCommand<P extends Record<string, Positional>, O extends Record<string, Option>>(
  command: Command<P, O>,
): Command<P, O> {
  return command;
}

/** A switch. */
export const flag = (description: string, more: Pick<Option, 'only'> = {}) => ({
  ...more,
  description,
  schema: z.boolean().default(false),
});

export const wholeNumber = (min: number, max = Number.MAX_SAFE_INTEGER) => {
  const range = max === Number.MAX_SAFE_INTEGER ? `from ${min} on` : `from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d+$/, `must be a whole number ${range}`)
    .transform(Number)
    .refine((number) => number >= min && number <= max, `must be a whole number ${range}`);
};

export const decimal = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d+(\.\d+)?$/, `must be a number from ${min} to ${max}`)
    .transform(Number)
    .refine((number) => number >= min && number <= max, `must be a number from ${min} to ${max}`);

/** RFC 3339. */
export const time = z.iso
  .datetime({ offset: true, error: 'must be a time such as 2026-11-22T09:00:00Z' })
  .transform((text) => new Date(text));

/** Without a password, which messages of failed requests would quote. */
export const httpUrl = z
  .url({ protocol: /^https?$/, error: 'must be a URL that begins with http:// or https://' })
  .refine((url) => !URL.canParse(url) || new URL(url).password === '', 'must not have a password in it');

/** @throws {UsageError} for anything that is not exactly understood */
export function parseCommand<P extends Record<string, Positional>, O extends Record<string, Option>>(
  command: Command<P, O>,
  args: string[],
): Read<P> & Read<O> {
  const { values, positionals, given } = parseWords(command, args);
  const twice = given.find(
    (name, index) => given.indexOf(name) !== index && !command.options[name]?.repeated,
  );
  if (twice !== undefined) throw new UsageError(`--${twice} is given twice`);
  if (positionals.some((word) => word.trim() === ''))
    throw new UsageError('an argument is empty: is a variable not set?');
  const read = readPositionals(command, positionals);
  const [first] = Object.values(read);
  for (const [name, { schema, only }] of Object.entries(command.options)) {
    const value = values[name];
    if ([value].flat().some((text) => typeof text === 'string' && text.trim() === ''))
      throw new UsageError(`--${name} is empty: is a variable not set?`);
    if (value !== undefined && only && !only.includes(String(first)))
      throw new UsageError(`--${name} belongs to ${only.join(' and ')}, not to ${first}`);
    read[name] = readValue(`--${name}`, schema, value);
  }
  return read as Read<P> & Read<O>;
}

type Words = {
  values: Record<string, unknown>;
  positionals: string[];
  /** The name of each option, as often as it was given. */
  given: string[];
};

function parseWords({ options }: Command, args: string[]): Words {
  const types = Object.entries(options).map(([name, { takes, repeated = false }]) => [
    name,
    { type: takes === undefined ? ('boolean' as const) : ('string' as const), multiple: repeated },
  ]);
  try {
    const { tokens, ...words } = parseArgs({
      args,
      allowPositionals: true,
      tokens: true,
      options: Object.fromEntries(types),
    });
    return { ...words, given: tokens.flatMap((token) => (token.kind === 'option' ? token.name : [])) };
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error));
  }
}

function readPositionals({ positionals }: Command, words: string[]): Record<string, unknown> {
  const read: Record<string, unknown> = {};
  const left = [...words];
  const entries = Object.entries(positionals).filter(
    ([, { only }]) => !only || only.includes(words[0] ?? ''),
  );
  for (const [index, [name, { schema }]] of entries.entries()) {
    if (schema instanceof z.ZodArray) {
      read[name] = readValue(name, schema, left.splice(0));
      continue;
    }
    const mayBeAnother = index < entries.length - 1 && isOptional(schema);
    const skipped = mayBeAnother && !schema.safeParse(left[0]).success;
    read[name] = readValue(name, schema, skipped ? undefined : left.shift());
  }
  if (left.length > 0) throw new UsageError(`not understood: ${left.join(' ')}`);
  return read;
}

function readValue(name: string, schema: z.ZodType, value: unknown): unknown {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const choices = choicesOf(schema);
  const [issue] = parsed.error.issues;
  const wrong = Array.isArray(value) ? value[Number(issue?.path[0])] : value;
  const problem = choices ? `must be ${listed.format(choices)}` : issue?.message;
  const isMissing = value === undefined || (Array.isArray(value) && value.length === 0);
  if (isMissing) throw new UsageError(`which ${name}?`);
  // What looks like a URL may have a password in it.
  const quoted = /@|:\/\//.test(String(wrong)) ? '' : ` "${wrong}"`;
  throw new UsageError(`${name}:${quoted} ${problem}`);
}

const listed = new Intl.ListFormat('en-GB', { type: 'disjunction' });

const isOptional = (schema: z.ZodType) =>
  schema.safeParse(schema instanceof z.ZodArray ? [] : undefined).success;

/** The values of an enumeration, or of each in an array of them. */
function choicesOf(schema: z.ZodType): string[] | undefined {
  const { enum: values, items } = z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' });
  return (values ?? (items as { enum?: unknown[] } | undefined)?.enum) as string[] | undefined;
}

/** What it is where it is not given, as text. */
function defaultOf({ schema }: Option): string | undefined {
  const { data } = schema.safeParse(undefined);
  return data === undefined || data === false ? undefined : String(data) || undefined;
}

/** The path of a file that a tool was given: relative to where it was called, which npm keeps in `INIT_CWD`. */
export const fromCaller = (name: string): string => path.resolve(process.env['INIT_CWD'] ?? '.', name);

/** The command with its positionals, in one line. */
export function synopsis({ name, positionals, options }: Command): string {
  const words = Object.entries(positionals).map(([word, { schema }]) => {
    const shown =
      schema instanceof z.ZodArray
        ? `${word.toUpperCase()}...`
        : (choicesOf(schema)?.join('|') ?? word.toUpperCase());
    return isOptional(schema) ? `[${shown}]` : shown;
  });
  return [name, ...words, ...(Object.keys(options).length > 0 ? ['[options]'] : [])].join(' ');
}

/** Each option and value with what it means. */
export function descriptions({ positionals, options }: Command): { term: string; meaning: string }[] {
  const values = Object.entries(positionals).flatMap(([word, { description }]) =>
    Object.entries(typeof description === 'string' ? { [word]: description } : description),
  );
  return [
    ...values.map(([term, meaning]) => ({ term, meaning })),
    ...Object.entries(options).map(([name, option]) => {
      const byDefault = defaultOf(option);
      const belongs = option.only ? `${option.only.join(', ')}: ` : '';
      return {
        term: option.takes === undefined ? `--${name}` : `--${name}=${option.takes}`,
        meaning: `${belongs}${option.description}${byDefault === undefined ? '' : ` (${byDefault})`}`,
      };
    }),
    { term: '--help', meaning: 'prints this' },
  ];
}

export function exitStatuses(command: Command): [status: number, meaning: string][] {
  const all = { 2: 'wrong usage: nothing was done', ...command.exitStatuses };
  return Object.entries(all).map(([status, meaning]) => [Number(status), meaning]);
}

const WIDTH = 110;

export function usage(command: Command): string {
  const terms = descriptions(command);
  const column = Math.max(...terms.map(({ term }) => term.length)) + 3;
  const list = terms.map(({ term, meaning }) => wrap(term.padEnd(column) + meaning, column));
  const statuses = exitStatuses(command).map(([status, meaning]) =>
    wrap(`${String(status).padEnd(3)}  ${meaning}`, 5),
  );
  return [
    `usage: ${synopsis(command)}\n`,
    `${wrap(command.summary)}\n`,
    `${list.join('\n')}\n`,
    wrap(`Changes: ${command.changes}`),
    ...(command.needs ? [wrap(`Needs: ${command.needs}`)] : []),
    `\n  exit status\n${statuses.join('\n')}`,
  ].join('\n');
}

/** Lines of at most {@link WIDTH} characters, indented by two, from the second on by `hanging` more. */
function wrap(text: string, hanging = 0): string {
  const lines = [text.slice(0, hanging)];
  for (const word of text.slice(hanging).split(' ')) {
    const line = lines.at(-1) ?? '';
    const separator = line.length === 0 || line.length === hanging ? '' : ' ';
    if (line.length + separator.length + word.length <= WIDTH)
      lines[lines.length - 1] = line + separator + word;
    else lines.push(' '.repeat(hanging) + word);
  }
  return lines.map((line) => `  ${line}`).join('\n');
}

/**
 * npm keeps an option that does not follow `--`, and says nothing: `npm run dlq redrive --dry-run` would move messages.
 * It tells its scripts of those it knows and of those it does not: https://docs.npmjs.com/cli/using-npm/config
 */
function refuseTakenByNpm({ options }: Command, env: NodeJS.ProcessEnv): void {
  const taken = Object.keys(options).find(
    (name) => env[`npm_config_${name.replace(/^no-/, '').replaceAll('-', '_')}`] !== undefined,
  );
  if (taken !== undefined)
    throw new UsageError(`npm keeps --${taken} for itself: put -- between the command and its options`);
}

/**
 * Runs a command as the process. `--help` prints the usage, exit status 0. What is not understood ends with status 2
 * before anything is done; what a person can mend is said in one line.
 */
export async function runCommand<P extends Record<string, Positional>, O extends Record<string, Option>>(
  command: Command<P, O>,
  main: (values: Read<P> & Read<O>) => Promise<number>,
): Promise<void> {
  const args = process.argv.slice(2);
  process.stdout.once('error', ({ code, message }: NodeJS.ErrnoException) => {
    // Who closes a pipe has read enough.
    if (code === 'EPIPE') return;
    console.error(`the output cannot be written: ${message}`);
    process.once('exit', () => {
      process.exitCode ||= command.failureStatus ?? 1;
    });
  });
  if (args.includes('--help') || args.includes('-h')) {
    console.log(usage(command));
    return;
  }
  try {
    refuseTakenByNpm(command, process.env);
    const values = parseCommand(command, args);
    // A developer's settings are for `dev`: their endpoint would turn a tool for production to an emulator.
    const others = Object.values(values).find((value) => value === 'staging' || value === 'production');
    if (!command.forContributors) loadDotenv(process.env, others as string | undefined);
    // As if npm had passed on what ended it.
    watchParent(process, () => process.kill(process.pid, 'SIGTERM'));
    process.exitCode = await main(values);
  } catch (error) {
    if (error instanceof UsageError) console.error(`${error.message}\n\n${usage(command)}`);
    else if (error instanceof StartupError) console.error(error.message);
    else if (command.forContributors) console.error(error);
    else console.error(error instanceof Error ? `${error.name}: ${error.message}` : error);
    process.exitCode = error instanceof UsageError ? 2 : (command.failureStatus ?? 1);
  }
}
