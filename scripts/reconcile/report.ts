import type { AcceptedOrderRef, Report } from './reconciliation.ts';

export type Verdict = 'ok' | 'wrong' | 'unresolved';
export type VerdictOptions = {
  /** An order that is stored and was never accepted is a fault too. */
  strict: boolean;
};

/** So many garbled lines are no surprise: processes that were killed, in the middle of a line each. */
const GARBLED_SHARE = 0.01;
const FEW_GARBLED = 3;

function isGarbled({ lines, garbled, other }: Report['journal']): boolean {
  const readable = lines - garbled - other;
  return garbled > Math.max(lines * GARBLED_SHARE, Math.min(FEW_GARBLED, readable / 4));
}

export function verdictOf(report: Report, { strict }: VerdictOptions): Verdict {
  const { missing, storedTwice, storedNeverAccepted, unresolved, maybeArchived, journal } = report;
  if (missing > 0 || storedTwice > 0 || (strict && storedNeverAccepted > 0)) return 'wrong';
  return unresolved > 0 || maybeArchived > 0 || isGarbled(journal) ? 'unresolved' : 'ok';
}

export function describeReport(report: Report, options: VerdictOptions): string {
  const { journal, orders, deadLetterQueue } = report;
  const about = [
    `${journal.lines} journal lines`,
    `${journal.repeated} repeated`,
    `${journal.garbled} garbled`,
    `${journal.other} of something else`,
    `${journal.outsideRange} outside the time range`,
  ];
  const notSeen = deadLetterQueue.notSeen > 0 ? `, ${deadLetterQueue.notSeen} not looked at` : '';
  return [
    row('accepted', report.accepted, about.join(', ')),
    row('  stored', report.stored),
    row('  archived', report.archived, describeArchives(report.archives)),
    row(
      '  dead-lettered',
      report.deadLettered,
      `${deadLetterQueue.messages} in the dead-letter queue${notSeen}`,
    ),
    row('  missing', report.missing),
    row(
      '  unresolved',
      report.unresolved,
      'neither stored nor dead-lettered, and not everything is worked off',
    ),
    row('  archived?', report.maybeArchived, 'not in the store, and older than what it keeps'),
    row('in flight', report.inFlight, 'messages in the order queue'),
    row('stored twice', report.storedTwice),
    row('accepted again', report.acceptedAgain, 'sent again by their client, which is harmless'),
    row('other content', report.otherContent, 'accepted under an id that another order had'),
    row('stored again', report.storedAgain, 'archived before, under the same id'),
    row('stored, never accepted', report.storedNeverAccepted, `of ${report.store.orders} in the store`),
    ...orders.missing.map((order) => `missing: ${describeOrder(order)}`),
    ...orders.unresolved.map((order) => `unresolved: ${describeOrder(order)}`),
    ...orders.storedTwice.map((orderId) => `stored twice: ${orderId}`),
    ...orders.storedAgain.map((orderId) => `stored again: ${orderId}`),
    ...orders.storedNeverAccepted.map((orderId) => `stored, never accepted: ${orderId}`),
    describeVerdict(report, options),
  ].join('\n');
}

function describeArchives({ files, orders, garbled, unreadableBytes }: Report['archives']): string {
  if (files === 0) return 'no archive was named';
  const damage =
    garbled + unreadableBytes > 0 ? `, ${garbled} garbled, ${unreadableBytes} bytes unreadable` : '';
  return `${orders} lines of ${files} ${files === 1 ? 'archive' : 'archives'}${damage}`;
}

function row(name: string, count: number, remark = ''): string {
  return `${name.padEnd(24)}${String(count).padStart(10)}   ${remark}`.trimEnd();
}

function describeOrder({ orderId, acceptedAt, messageId, traceId, content }: AcceptedOrderRef): string {
  return `${orderId} accepted ${acceptedAt} message ${messageId ?? '?'} trace ${traceId ?? '?'} content ${content ?? '?'}`;
}

function describeVerdict(report: Report, options: VerdictOptions): string {
  switch (verdictOf(report, options)) {
    case 'ok':
      return `OK: every accepted order is stored${report.archived > 0 ? ', archived' : ''} or dead-lettered`;
    case 'wrong': {
      const { missing, storedTwice, storedNeverAccepted } = report;
      const faults = { missing, 'stored twice': storedTwice, 'stored, never accepted': storedNeverAccepted };
      return `WRONG: ${Object.entries(faults)
        .filter(([, count]) => count > 0)
        .map(([fault, count]) => `${count} ${fault}`)
        .join('; ')}${mayBeArchived(report) ? ARCHIVE_HINT : ''}`;
    }
    case 'unresolved':
      return `UNRESOLVED: ${whyUnresolved(report).join('; ')}`;
  }
}

const ARCHIVE_HINT = `
Some were accepted more than 30 days ago. If scripts/retention.sh runs here, name its archives: --archive=FILE`;
const MIN_KEEP_MS = 30 * 24 * 60 * 60 * 1_000;

/** Nobody said whether orders leave this store, and some are older than what leaves it at the earliest. */
function mayBeArchived({ archives, orders }: Report): boolean {
  const isOld = ({ acceptedAt }: AcceptedOrderRef) => Date.parse(acceptedAt) < Date.now() - MIN_KEEP_MS;
  return archives.files === 0 && orders.missing.some(isOld);
}

function whyUnresolved(report: Report): string[] {
  const { journal, maybeArchived, unresolved } = report;
  const reasons: string[] = [];
  if (unresolved > 0) reasons.push(`${unresolved} ${whereUnresolved(report)}`);
  if (maybeArchived > 0) reasons.push(`${maybeArchived} may be archived: name the archives, --archive=FILE`);
  if (isGarbled(journal))
    reasons.push(`${journal.garbled} of ${journal.lines} lines of the journals cannot be read`);
  return reasons;
}

function whereUnresolved({ inFlight, deadLetterQueue }: Report): string {
  if (inFlight > 0) return 'may be in the queue: call again when it is empty';
  return deadLetterQueue.notSeen > 0
    ? `may be among the ${deadLetterQueue.notSeen} dead letters that were not looked at`
    : 'were accepted a moment ago: call again in a minute';
}
