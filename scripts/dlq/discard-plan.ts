import { closeSync, fdatasyncSync, openSync, writeSync } from 'node:fs';
import type { DeadLetteredMessage, RedriveOptions } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { letterHash } from '@orders/consumer/dlq/plan-entry.ts';
import { attributeAsJson } from '@orders/consumer/queue/dead-letter.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import type { JournalState } from './journal.ts';
import { isMoved, moveAll, type RunOptions } from './run-plan.ts';

/**
 * Deletes the messages of a plan, each once its copy is on the disk. May be killed and called again.
 * @returns how many were to be discarded, and how many are not
 * @throws {StartupError} the archive cannot be written, or a message is not the one that was planned
 */
export async function discardPlan(
  options: Pick<RunOptions, 'deadLetterQueue' | 'depth' | 'plan' | 'journal' | 'signal'> & {
    archive: string;
    because: string;
  },
): Promise<{ messages: number; missing: number }> {
  const { plan, journal, signal, archive, because } = options;
  const fd = openArchive(archive);
  const without =
    (...results: (JournalState['result'] | undefined)[]) =>
    () =>
      [...plan.letters.keys()].filter((id) => !results.includes(journal.states.get(id)?.result)).length;
  const failed = new Set<string>();
  const moving = {
    signal,
    conflicts: true,
    where: (letter) => {
      const planned = plan.letters.get(letter.message.messageId);
      if (planned && planned.hash !== letterHash(letter))
        throw new StartupError(`message ${letter.message.messageId} is not the one that was planned`);
      return planned !== undefined && isMoved(planned);
    },
    before: async (letters) => {
      writeSync(fd, letters.map((letter) => `${JSON.stringify(archived(letter))}\n`).join(''));
      fdatasyncSync(fd);
      journal.append(
        letters.map((letter) => ({
          result: 'DISCARDING',
          messageId: letter.message.messageId,
          before: letterHash(letter),
          reason: because,
        })),
      );
    },
    toSend: () => undefined,
    onMoved: ({ message }) => journal.append([{ result: 'DISCARDED', messageId: message.messageId }]),
    onFailed: ({ message }) => failed.add(message.messageId),
  } satisfies RedriveOptions;
  try {
    await moveAll({ ...options, moving, unfinished: without('DISCARDED') });
  } finally {
    closeSync(fd);
  }
  // What was archived and is not there any more was deleted by a run that was killed before it could say so.
  const account = {
    messages: plan.letters.size,
    missing: without('DISCARDED', 'DISCARDING')() + failed.size,
  };
  journal.append([{ result: 'ENDED', reason: JSON.stringify(account) }]);
  return account;
}

function openArchive(file: string): number {
  try {
    return openSync(file, 'a', 0o600);
  } catch (cause) {
    throw new StartupError(`nothing is discarded: cannot write ${file} (${(cause as Error).message})`, {
      cause,
    });
  }
}

/** All that is in a message, binary values in base64. */
function archived({ message }: DeadLetteredMessage) {
  const { messageId, body, rawAttributes, groupId, sentAt } = message;
  const attributes = Object.entries(rawAttributes).map(([name, attribute]) => [
    name,
    attributeAsJson(attribute),
  ]);
  return { messageId, sentAt, groupId, body, attributes: Object.fromEntries(attributes) };
}
