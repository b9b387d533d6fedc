import { ready } from '../probe.ts';
import { handle, job } from './consume-job.ts';
import { openRawClient, type RawClientKind } from './raw-client.ts';

/**
 * Loops that receive ten, handle and delete ten, by the client that the argument names; with `overlap`, the delete is
 * under way while the next receive is.
 */
const { receive, remove } = openRawClient(process.argv[3] as RawClientKind, job.endpoint, job.queueUrl);
const overlap = process.argv[4] === 'overlap';

async function loop(): Promise<never> {
  let removing: Promise<void> = Promise.resolve();
  for (;;) {
    const messages = await receive();
    await removing;
    if (messages.length === 0) continue;
    await handle(messages);
    removing = remove(messages);
    if (!overlap) await removing;
  }
}
for (let poller = 0; poller < job.pollers; poller++) void loop();
ready();
