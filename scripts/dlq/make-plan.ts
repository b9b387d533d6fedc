import { readFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import type { DeadLetteredMessage, DeadLetterQueue } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { type PlanEntry, type PlanOptions, planEntry } from '@orders/consumer/dlq/plan-entry.ts';
import { jsonPatch, type Repair } from '@orders/consumer/dlq/repair.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { z } from 'zod';
import { oneLine } from './describe.ts';
import type { PlanWriter } from './plan-file.ts';

export type Planned = {
  seen: number;
  chosen: number;
  actions: Record<PlanEntry['action'], number>;
  /** Why messages are left, and how many. */
  left: Record<string, number>;
  /** A few of the repaired messages, with what differs. */
  examples: Pick<PlanEntry, 'messageId' | 'changes'>[];
};

const MAX_EXAMPLES = 3;
const MAX_CAUSES = 20;

/** Writes what is to be done with each chosen message. The queue stays as it is; ends early when the signal aborts. */
export async function makePlan(
  deadLetterQueue: DeadLetterQueue,
  writer: PlanWriter,
  isChosen: (letter: DeadLetteredMessage) => boolean,
  { signal, ...options }: PlanOptions & { signal: AbortSignal },
): Promise<Planned> {
  const actions = { redrive: 0, repair: 0, discard: 0, leave: 0 };
  const planned: Planned = { seen: 0, chosen: 0, actions, left: {}, examples: [] };
  for await (const letters of deadLetterQueue.readAll()) {
    planned.seen += letters.length;
    for (const letter of letters.filter(isChosen)) {
      const entry = await planEntry(letter, options);
      writer.add(entry);
      count(planned, entry);
    }
    if (signal.aborted) break;
  }
  return planned;
}

function count(planned: Planned, { messageId, action, why, changes }: PlanEntry): void {
  const { actions, left, examples } = planned;
  planned.chosen++;
  actions[action]++;
  if (changes && examples.length < MAX_EXAMPLES) examples.push({ messageId, changes });
  if (why === undefined) return;
  const cause = Object.hasOwn(left, why) || Object.keys(left).length < MAX_CAUSES ? why : 'other reasons';
  left[cause] = (left[cause] ?? 0) + 1;
}

const MAX_CHANGES = 10;

export function plannedAsText({ actions, left, examples }: Planned): string {
  const changes = examples.flatMap(({ messageId, changes = [] }) => [
    `  ${messageId}`,
    ...changes
      .slice(0, MAX_CHANGES)
      .map(({ path, before, after }) => `    ${path}: ${shown(before)} → ${shown(after)}`),
    ...(changes.length > MAX_CHANGES ? [`    and ${changes.length - MAX_CHANGES} more`] : []),
  ]);
  return [
    `${actions.redrive} to redrive, ${actions.repair} to repair and redrive, ${actions.discard} to discard, ${actions.leave} left`,
    ...Object.entries(left).map(([why, letters]) => `  ${letters} left: ${why}`),
    ...(changes.length > 0 ? [`${examples.length} of the repairs:`, ...changes] : []),
  ]
    .map(oneLine)
    .join('\n');
}

const shown = (value: unknown) => (value === undefined ? 'not there' : JSON.stringify(value));

/**
 * A JSON Patch (RFC 6902) in a file that ends in .json, or a module whose default export maps an order.
 * @throws {StartupError} it is neither
 */
export async function readRepair(file: string): Promise<Repair> {
  try {
    if (file.endsWith('.json')) return jsonPatch(JSON.parse(readFileSync(file, 'utf8')));
    const { default: repair } = await import(pathToFileURL(file).href);
    if (typeof repair !== 'function') throw new Error('it has no function as its default export');
    return repair;
  } catch (cause) {
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
    throw new StartupError(`${file} is no JSON Patch (.json) and no module that maps an order: ${why}`, {
      cause,
    });
  }
}
