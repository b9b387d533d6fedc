import type { DeadLetteredMessage } from '@orders/consumer/dlq/dead-letter-queue.ts';
import { type Group, isReadable, MOVED_BY_SQS, type Reading } from '@orders/consumer/dlq/diagnosis.ts';
import { REJECTION_REASONS, type RejectionReason } from '@orders/consumer/domain/outcome.ts';
import { redriveCountOf } from '@orders/consumer/queue/redrive-mark.ts';

/**
 * All that is known of a dead letter without its content, for a line of text or of JSON.
 * @param readings of it
 * @param retentionSeconds of the queue, where it is known
 */
export function factsOf(
  { message, deadLetter }: DeadLetteredMessage,
  readings: readonly Reading[],
  retentionSeconds?: number,
) {
  return {
    messageId: message.messageId,
    originalMessageId: deadLetter?.messageId,
    reason: deadLetter?.reason ?? MOVED_BY_SQS,
    detail: deadLetter?.detail ?? '',
    orderIds: readings.flatMap(({ order, encrypted }) => order?.orderId ?? (encrypted?.orderId || [])),
    now: verdict(readings),
    attempts: deadLetter?.attempts ?? message.receiveCount,
    failures: deadLetter?.failures,
    firstSeenAt: deadLetter?.firstSeenAt,
    deadLetteredAt: deadLetter?.deadLetteredAt,
    codeVersion: deadLetter?.codeVersion,
    expiresAt:
      message.sentAt && retentionSeconds !== undefined
        ? new Date(message.sentAt.getTime() + retentionSeconds * 1_000).toISOString()
        : undefined,
    traceId: deadLetter?.traceId,
    redrives: redriveCountOf(message),
  };
}
type Facts = ReturnType<typeof factsOf>;

/** What this release makes of it. */
function verdict(readings: readonly Reading[]): string {
  const problems = readings.flatMap(({ problem }) => problem ?? []);
  const [first] = problems;
  const encrypted = readings.find((reading) => reading.encrypted)?.encrypted;
  if (!first) return encrypted ? `encrypted: ${encrypted.detail}` : 'readable';
  const of = readings.length > 1 ? `${problems.length} of ${readings.length} orders: ` : '';
  return `${of}still ${first.reason} (${first.detail})`;
}

export const asLine = ({ messageId, orderIds, reason, detail, now, deadLetteredAt }: Facts): string =>
  oneLine(
    `${messageId} ${deadLetteredAt ?? ''} ${reason} (${detail || meaningOf(reason)}); order ${orderIds.join(', ') || 'unreadable'}; now ${now}`,
  );

export function asText(
  { message }: DeadLetteredMessage,
  readings: readonly Reading[],
  facts: Facts,
  environment: string,
): string {
  const { reason, detail, deadLetteredAt, codeVersion, traceId, originalMessageId } = facts;
  const lines: [string, string][] = [
    [
      'message',
      facts.messageId + (originalMessageId ? `; in the order queue it was ${originalMessageId}` : ''),
    ],
    ['reason', `${reason}: ${meaningOf(reason)}`],
    ...(detail ? [['detail', detail] as [string, string]] : []),
    [
      'tried',
      `${facts.attempts} receives${facts.failures === undefined ? '' : `, ${facts.failures} failures`}${facts.redrives > 0 ? `; redriven by plans before: ${facts.redrives}` : ''}`,
    ],
    ...(deadLetteredAt
      ? ([
          ['rejected', `${deadLetteredAt} by release ${codeVersion}; first seen ${facts.firstSeenAt}`],
          ['trace', `${traceId}${logsOf(environment, traceId ?? '')}`],
        ] as [string, string][])
      : []),
    ['expires', facts.expiresAt ?? 'unknown'],
    ['now', isReadable(readings) ? 'this release reads it' : facts.now],
  ];
  const body = isReadable(readings)
    ? readings.map(({ order }) => JSON.stringify(order, null, 2)).join('\n')
    : JSON.stringify(message.body.slice(0, MAX_BODY_CHARACTERS));
  return [...lines.map(([name, text]) => `${name.padEnd(10)}${oneLine(text)}`), printable(body)].join('\n');
}

/** Of a body that is not shown as orders. */
const MAX_BODY_CHARACTERS = 4_000;

const logsOf = (environment: string, traceId: string) =>
  environment === 'dev' || !/^[0-9a-f]{32}$/.test(traceId)
    ? ''
    : `; log lines: kubectl -n ${environment} logs -l app.kubernetes.io/part-of=order-pipeline --tail=-1 | grep ${traceId}`;

export function groupAsText(group: Group, environment: string): string {
  const {
    letters,
    reason,
    detail,
    readable,
    encrypted,
    expiring,
    first,
    last,
    releases,
    example,
    fingerprint,
  } = group;
  const rejected = first ? `rejected ${first} to ${last} by ${releases.slice(0, 5).join(', ')}` : '';
  const soon = expiring > 0 ? `${expiring} EXPIRE WITHIN 24 HOURS` : '';
  return [
    `${String(letters).padStart(7)}  ${reason}: ${detail || meaningOf(reason)}`,
    ...[[rejected, soon].filter(Boolean).join('; ')].filter(Boolean),
    `this release reads ${readable} of ${letters}${encrypted > 0 ? `, and cannot tell of ${encrypted} that are encrypted` : ''}. ${advice(group, environment)}`,
    `fingerprint ${fingerprint}; example: scripts/dlq.sh show ${environment} ${example}`,
  ]
    .map(oneLine)
    .join('\n         ');
}

/** What to do next about letters of one kind. */
function advice({ reason, letters, readable, encrypted, fingerprint }: Group, environment: string): string {
  // Whoever can send wrote it, and a command is pasted into a shell.
  if (!isOurs(reason)) return 'No release of ours writes this reason: look at one of them first.';
  const redrive = `scripts/dlq.sh redrive ${environment} --reason=${reason}`;
  if (reason === 'CONFLICT')
    return 'Another order with their id is stored: compare each with GET /orders/ID. Redriven, they come back.';
  if (reason === MOVED_BY_SQS && readable > 0)
    return `They may have killed their consumer: ${redrive} --limit=1, watch it, then the rest.`;
  if (readable === letters) return `Next: ${redrive} --limit=1, watch it, then the rest.`;
  if (readable > 0) return `Next: ${redrive} --readable --limit=1, watch it, then the rest of these.`;
  if (encrypted > 0)
    return 'With the key of the consumer (MESSAGE_ENCRYPTION_…), this says whether they can be read: docs/security.md.';
  if (reason === 'NEWER_VERSION') return 'Next: deploy the release that reads them, then redrive.';
  return `Redriven as they are, they come back: whoever sent them must send correct ones, or repair them: scripts/dlq.sh plan ${environment} --fingerprint=${fingerprint} --repair=FILE --out=PLAN`;
}

const isOurs = (reason: string): reason is RejectionReason | typeof MOVED_BY_SQS =>
  reason === MOVED_BY_SQS || Object.hasOwn(REJECTION_REASONS, reason);

function meaningOf(reason: string): string {
  if (!isOurs(reason)) return 'a reason that this release does not know';
  return reason === MOVED_BY_SQS
    ? 'received too often, most likely because it kills its consumer'
    : REJECTION_REASONS[reason];
}

const MAX_LINE_CHARACTERS = 500;

/** A line of its own: what came with a message can neither begin another nor push the rest off the screen. */
export const oneLine = (text: string): string =>
  printable(text.length > MAX_LINE_CHARACTERS ? `${text.slice(0, MAX_LINE_CHARACTERS)}…` : text).replaceAll(
    '\n',
    '\\n',
  );

/** Control characters and marks of direction could steer the terminal. JSON stays JSON of the same meaning. */
export const printable = (text: string): string =>
  text.replaceAll(/(?!\n)[\p{Cc}\p{Cf}]/gu, (character) =>
    Array.from(
      { length: character.length },
      (_, at) => `\\u${character.charCodeAt(at).toString(16).padStart(4, '0')}`,
    ).join(''),
  );
