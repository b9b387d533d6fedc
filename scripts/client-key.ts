import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { ApiKeys, createApiKey } from '@orders/shared/auth/api-keys.ts';
import { CLIENT_ID, isScope, SCOPES } from '@orders/shared/auth/client.ts';
import { z } from 'zod';
import { defineCommand, fromCaller, runCommand, type ValuesOf } from './command.ts';

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
      description: `what a new client may do, separated by commas: ${SCOPES.join(', ')}`,
      schema: z
        .string()
        .default('orders:write,orders:read')
        .refine((list) => list.split(',').every(isScope), `must be of ${SCOPES.join(', ')}`),
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
  const file = name === undefined ? undefined : fromCaller(name);
  const { key, digest } = createApiKey();
  if (file === undefined) {
    console.error(
      `Add this line to API_KEYS_FILE:\n${client} ${scopes} ${digest}\nThe key, which is shown once:`,
    );
  } else {
    const text = withKey(existsSync(file) ? readFileSync(file, 'utf8') : '', { client, scopes, digest });
    ApiKeys.parse(text);
    // At once, so that no service reads half of it.
    writeFileSync(`${file}.new`, text, { mode: 0o600 });
    renameSync(`${file}.new`, file);
    console.error(`${client} is in ${file}. The key, which is shown once:`);
  }
  console.log(key);
  return 0;
}

/** The text of the file, with one more key on the client's line, or with a line for it. */
function withKey(
  text: string,
  { client, scopes, digest }: { client: string; scopes: string; digest: string },
) {
  const lines = text.split('\n');
  const index = lines.findIndex((line) => line.trim().split(/\s+/)[0] === client);
  const line = lines[index];
  if (line === undefined)
    return `${text.replace(/\n?$/, text === '' ? '' : '\n')}${client} ${scopes} ${digest}\n`;
  const [, entry = '', comment = ''] = /^([^#]*?)(\s*#.*)?$/.exec(line) ?? [];
  return lines.with(index, `${entry.trimEnd()} ${digest}${comment}`).join('\n');
}
