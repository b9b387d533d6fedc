import * as fs from 'node:fs';
import { ApiKeys, createApiKey } from '@orders/shared/auth/api-keys.ts';
import { CLIENT_ID, isScope, SCOPES } from '@orders/shared/auth/client.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { z } from 'zod';
import { defineCommand, fromCaller, runCommand, type ValuesOf } from './command.ts';

/** What it may do where nothing else is said. */
const NEW_CLIENT = 'orders:write,orders:read';

export const command = defineCommand({
  name: 'scripts/client-key.sh',
  summary:
    'Makes an API key for a client. The key goes to standard output, once: nobody can read it from what is stored.',
  positionals: {
    client: {
      schema: z.string().regex(CLIENT_ID, 'must be a name of letters, digits and . _ - @ : |'),
      description: 'who will use it, such as web-shop',
    },
  },
  options: {
    scopes: {
      takes: 'LIST',
      description: `what a new client may do, separated by commas: ${SCOPES.join(', ')} (${NEW_CLIENT})`,
      schema: z
        .string()
        .refine((list) => list.split(',').every(isScope), `must be of ${SCOPES.join(', ')}`)
        .optional(),
    },
    file: {
      takes: 'FILE',
      description:
        'the API_KEYS_FILE to add it to; a client that is in it keeps its scopes and its key, until that is taken out by hand',
      schema: z.string().optional(),
    },
  },
  changes: 'the file, where one is given. Services read it again within seconds.',
  exitStatuses: { 0: 'made', 1: 'not made, and why' },
});

if (import.meta.main) await runCommand(command, main);

async function main({ client, scopes, file: name }: ValuesOf<typeof command>): Promise<number> {
  const { key, digest } = createApiKey();
  if (name === undefined) {
    console.error(
      `Add this line to API_KEYS_FILE:\n${client} ${scopes ?? NEW_CLIENT} ${digest}\nThe key, which is shown once:`,
    );
    console.log(key);
    return 0;
  }
  const file = fromCaller(name);
  replaceFile(file, (before) => {
    const text = withKey(before, { client, scopes, digest });
    ApiKeys.parse(text);
    console.error(`The key of ${client}, which is shown once:`);
    // Before the file has it: a key that nobody has seen would take a client's place for its next one.
    fs.writeSync(process.stdout.fd, `${key}\n`);
    return text;
  });
  console.error(`${client} is in ${file}.`);
  return 0;
}

/**
 * At once, so that no service reads half of it; where a link points to; readable for whom it was. The new file is also
 * the lock: of two runs, one would write over what the other added.
 */
function replaceFile(name: string, change: (text: string) => string): void {
  const file = fs.lstatSync(name, { throwIfNoEntry: false }) ? fs.realpathSync(name) : name;
  const next = openNew(`${file}.new`);
  try {
    const old = fs.statSync(file, { throwIfNoEntry: false });
    if (old) {
      if (!old.isFile()) throw new StartupError(`${file} is not a file`);
      if ((old.mode & 0o222) === 0) throw new StartupError(`${file} is read-only`);
      fs.accessSync(file, fs.constants.W_OK);
      fs.fchownSync(next, old.uid, old.gid);
      fs.fchmodSync(next, old.mode);
    }
    fs.writeFileSync(next, change(old ? fs.readFileSync(file, 'utf8') : ''));
    fs.fsyncSync(next);
    fs.renameSync(`${file}.new`, file);
  } catch (error) {
    fs.unlinkSync(`${file}.new`);
    throw error;
  } finally {
    fs.closeSync(next);
  }
}

function openNew(name: string): number {
  try {
    return fs.openSync(name, 'wx', 0o600);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    throw new StartupError(
      `${name} is there: another run is writing, or was killed; if none runs, delete it`,
    );
  }
}

/** The text of the file, with one more key on the client's line, or with a line for it. */
function withKey(
  text: string,
  { client, scopes, digest }: { client: string; scopes: string | undefined; digest: string },
) {
  const lines = text.split('\n');
  const index = lines.findIndex((line) => line.trim().split(/\s+/)[0] === client);
  const line = lines[index];
  if (line === undefined)
    return `${text.replace(/\n?$/, text === '' ? '' : '\n')}${client} ${scopes ?? NEW_CLIENT} ${digest}\n`;
  // The end has a CR where the file comes from Windows.
  const [, entry = '', end = ''] = /^([^#]*?)(\s*(?:#.*)?)$/s.exec(line) ?? [];
  const has = entry.trim().split(/\s+/)[1] ?? '';
  if (scopes !== undefined && sorted(scopes) !== sorted(has))
    throw new StartupError(`${client} is in the file with ${has}: its scopes are changed by hand`);
  return lines.with(index, `${entry} ${digest}${end}`).join('\n');
}

function sorted(list: string): string {
  return list.split(',').sort().join();
}
