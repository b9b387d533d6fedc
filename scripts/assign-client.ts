import {
  type OwnerlessCount,
  type OwnerlessOrders,
  openOwnerlessOrders,
} from '@orders/consumer/adapters/ownerless-orders.ts';
import { CLIENT_ID } from '@orders/shared/auth/client.ts';
import { z } from 'zod';
import { defineCommand, flag, runCommand, UsageError, type ValuesOf } from './command.ts';
import { isConfirmed } from './confirm.ts';
import { storeOfAppEnv } from './store-url.ts';

export const command = defineCommand({
  name: 'npm run assign-client --',
  summary:
    'Gives orders that belong to nobody to a client: those stored before clients were asked who they are, or while nobody was asked. Orders that have an owner keep it. A run that is stopped half-way has assigned a part; repeat it. Consumers may work meanwhile; retention may not.',
  positionals: {
    client: {
      schema: z.string().regex(CLIENT_ID, 'must be a name of letters, digits and . _ - @ : |'),
      description: 'the client that becomes their owner, as it stands in API_KEYS_FILE or in its tokens',
    },
  },
  options: {
    all: flag('all orders of nobody'),
    customer: { takes: 'ID', description: 'those of this customer', schema: z.string().optional() },
    'customer-prefix': {
      takes: 'TEXT',
      description: 'those of customers whose id begins so',
      schema: z.string().optional(),
    },
    'dry-run': flag('says how many orders it would be'),
    confirm: {
      takes: 'CLIENT',
      description: "the client's name again, outside dev or with PostgreSQL, if nobody can be asked for it",
      schema: z.string().optional(),
    },
  },
  changes: 'the owner of those orders. It cannot be taken back by a command.',
  needs:
    'DATABASE_URL and DATABASE_CA_FILE, required outside dev (APP_ENV); SELECT and UPDATE on the orders table.',
  exitStatuses: { 0: 'done', 1: 'not done, or in part, with the reason' },
});

if (import.meta.main) await runCommand(command, main);

async function main(values: ValuesOf<typeof command>): Promise<number> {
  const { client, all, customer, 'customer-prefix': prefix } = values;
  if ([all || undefined, customer, prefix].filter((rule) => rule !== undefined).length !== 1)
    throw new UsageError('say which orders: --all, --customer=ID or --customer-prefix=TEXT');
  const { appEnv, databaseUrl } = storeOfAppEnv(process.env);
  const orders = await openOwnerlessOrders(databaseUrl);
  try {
    const rule = { customer, prefix };
    // A database that others may share asks too, whatever the environment is called.
    const asks = appEnv !== 'dev' || !databaseUrl.startsWith('sqlite:');
    if (values['dry-run'] || asks) {
      const { chosen, others } = await orders.count(rule);
      console.log(
        `${chosen} orders of nobody would be given to ${client}; ${others} others would stay nobody's`,
      );
      if (values['dry-run'] || chosen === 0) return 0;
      const { host, pathname } = new URL(databaseUrl);
      const warning = `This makes ${client} the owner of those orders in ${host}${pathname}.`;
      if (!(await isConfirmed(client, { given: values.confirm, warning }))) {
        console.error(
          `not done: the client was not confirmed (--confirm=${client} where nobody can be asked)`,
        );
        return 1;
      }
    }
    console.log(doneText(await assign(orders, client, rule), client));
    return 0;
  } finally {
    await orders.close();
  }
}

async function assign(orders: OwnerlessOrders, ...args: Parameters<OwnerlessOrders['assign']>) {
  try {
    return await orders.assign(...args);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new Error(`assigned in part: ${reason}. Mend that, then run it again`, { cause });
  }
}

function doneText({ chosen, others }: OwnerlessCount, client: string): string {
  return `${chosen} orders of nobody were given to ${client}; ${others} others are still nobody's`;
}
