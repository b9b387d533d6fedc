import type { AcceptedOrderRef, Report } from './reconciliation.ts';

export type Verdict = 'ok' | 'wrong' | 'unresolved';
export type VerdictOptions = {
  /** An order that is stored and was never accepted is a fault too. */
  strict: boolean;
};

export function verdictOf(report: Report, { strict }: VerdictOptions): Verdict {
  const { missing, storedTwice, storedNeverAccepted, unresolved } = report;
  if (missing > 0 || storedTwice > 0 || (strict && storedNeverAccepted > 0)) return 'wrong';
  return unresolved > 0 ? 'unresolved' : 'ok';
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
    row('in flight', report.inFlight, 'messages in the order queue'),
    row('stored twice', report.storedTwice),
    row('accepted again', report.acceptedAgain, 'sent again by their client, which is harmless'),
    row('stored, never accepted', report.storedNeverAccepted, `of ${report.store.orders} in the store`),
    ...orders.missing.map((order) => `missing: ${describeOrder(order)}`),
    ...orders.unresolved.map((order) => `unresolved: ${describeOrder(order)}`),
    ...orders.storedTwice.map((orderId) => `stored twice: ${orderId}`),
    ...orders.storedNeverAccepted.map((orderId) => `stored, never accepted: ${orderId}`),
    describeVerdict(report, options),
  ].join('\n');
}

function row(name: string, count: number, remark = ''): string {
  return `${name.padEnd(24)}${String(count).padStart(10)}   ${remark}`.trimEnd();
}

function describeOrder({ orderId, acceptedAt, messageId, traceId }: AcceptedOrderRef): string {
  return `${orderId} accepted ${acceptedAt} message ${messageId ?? '?'} trace ${traceId ?? '?'}`;
}

function describeVerdict(report: Report, options: VerdictOptions): string {
  switch (verdictOf(report, options)) {
    case 'ok':
      return 'OK: every accepted order is stored or dead-lettered';
    case 'wrong': {
      const { missing, storedTwice, storedNeverAccepted } = report;
      const faults = { missing, 'stored twice': storedTwice, 'stored, never accepted': storedNeverAccepted };
      return `WRONG: ${Object.entries(faults)
        .filter(([, count]) => count > 0)
        .map(([fault, count]) => `${count} ${fault}`)
        .join('; ')}`;
    }
    case 'unresolved':
      return `UNRESOLVED: ${report.unresolved} ${whyUnresolved(report)}`;
  }
}

function whyUnresolved({ inFlight, deadLetterQueue }: Report): string {
  if (inFlight > 0) return 'may be in the queue: call again when it is empty';
  return deadLetterQueue.notSeen > 0
    ? `may be among the ${deadLetterQueue.notSeen} dead letters that were not looked at`
    : 'were accepted a moment ago: call again in a minute';
}
