import type { Contacts } from './contacts.ts';
import { INTERVALS, type Urgency } from './thresholds.ts';

/** Alerts that follow from another one, in the same namespace: whoever mends the cause needs no message about them. */
const CONSEQUENCES: Readonly<Record<string, readonly string[]>> = {
  SqsUnavailable: [
    'OrdersStoredLate',
    'RequestsBeyondObjective',
    'NothingConsumed',
    'OrdersDelayed',
    'QueueDepthHigh',
    'OrderRateLow',
    'ResponseSlow',
    'ErrorShareHigh',
    'LeasesLost',
    'SettleErrors',
  ],
  StoreUnavailable: [
    'OrdersStoredLate',
    'NothingConsumed',
    'OrdersDelayed',
    'QueueDepthHigh',
    'OrderRateLow',
    'LeasesLost',
  ],
  KmsUnavailable: [
    'OrdersStoredLate',
    'RequestsBeyondObjective',
    'NothingConsumed',
    'OrdersDelayed',
    'QueueDepthHigh',
    'OrderRateLow',
    'ErrorShareHigh',
  ],
  NothingConsumed: ['OrdersStoredLate', 'OrdersDelayed', 'QueueDepthHigh', 'OrderRateLow'],
};

/** How messages leave. Where one is left out, contacts get nothing by that way. */
export type Delivery = {
  slack?: { urlFile: string } | { url: string };
  mail?: { smarthost: string; from: string; username?: string; passwordFile?: string; requireTls?: boolean };
  /** Shortens the waits of the escalation, for tests: 1/60 makes a minute a second. */
  timeScale?: number;
};

export const PRODUCTION_SECRETS = '/etc/alertmanager/secrets';

export const productionDelivery = ({ mail }: Contacts): Delivery => ({
  slack: { urlFile: `${PRODUCTION_SECRETS}/slack-webhook-url` },
  mail: { ...mail, passwordFile: `${PRODUCTION_SECRETS}/smtp-password`, requireTls: true },
});

/**
 * Alertmanager's configuration. A tier is told by a route whose group waits as long as the tier before has to answer:
 * an alert that is silenced, or over, before then is not told to it.
 * https://prometheus.io/docs/alerting/latest/configuration/
 */
export function alertmanagerConfig(
  { contacts, escalation }: Contacts,
  { slack, mail, timeScale = 1 }: Delivery,
) {
  const scaled = (duration: string) => scale(duration, timeScale);
  const routes = Object.entries(escalation).flatMap(([urgency, row]) => {
    const tier = (names: readonly string[], wait: string) =>
      names.map((receiver) => ({
        receiver,
        matchers: [`urgency="${urgency satisfies string as Urgency}"`],
        group_wait: wait,
        repeat_interval: scaled(row.repeat),
        continue: true,
      }));
    return [
      ...tier(row.first, scaled(INTERVALS.group)),
      ...tier(row.second, scaled(row.respondWithin)),
      ...tier(row.escalateTo, scaled(row.escalateAfter)),
    ];
  });
  return {
    global: {
      ...(slack && ('url' in slack ? { slack_api_url: slack.url } : { slack_api_url_file: slack.urlFile })),
      ...(mail && {
        smtp_smarthost: mail.smarthost,
        smtp_from: mail.from,
        smtp_require_tls: mail.requireTls ?? false,
        ...(mail.username ? { smtp_auth_username: mail.username } : {}),
        ...(mail.passwordFile ? { smtp_auth_password_file: mail.passwordFile } : {}),
      }),
    },
    route: {
      // An alert without urgency is none of ours; it is shown, and told to nobody.
      receiver: 'nobody',
      group_by: ['alertname', 'namespace', 'service', 'severity'],
      group_interval: timeScale < 1 ? '5s' : '1m',
      routes,
    },
    inhibit_rules: inhibitRules(),
    receivers: [
      { name: 'nobody' },
      ...Object.entries(contacts).map(([name, { slack: channel, email }]) => ({
        name,
        ...(slack && channel ? { slack_configs: [slackMessage(channel)] } : {}),
        ...(mail && email ? { email_configs: [{ to: email, send_resolved: true }] } : {}),
      })),
    ],
  };
}

function inhibitRules() {
  return [
    ...Object.entries(CONSEQUENCES).map(([cause, consequences]) => ({
      source_matchers: [`alertname="${cause}"`],
      target_matchers: [`alertname=~"${consequences.join('|')}"`],
      equal: ['namespace'],
    })),
    {
      source_matchers: ['alertname="ServiceAbsent"', 'service="order-consumer"'],
      target_matchers: ['alertname=~"NothingConsumed|OrdersDelayed|QueueDepthHigh|OrderRateLow"'],
      equal: ['namespace'],
    },
    // The more urgent one of the same alert.
    ...[
      ['critical', 'high|medium|low'],
      ['high', 'medium|low'],
    ].map(([source, targets]) => ({
      source_matchers: [`urgency="${source}"`],
      target_matchers: [`urgency=~"${targets}"`],
      equal: ['alertname', 'namespace', 'service', 'instance'],
    })),
  ];
}

const slackMessage = (channel: string) => ({
  channel,
  send_resolved: true,
  color:
    '{{ if eq .Status "resolved" }}good{{ else if eq .CommonLabels.severity "info" }}#439FE0{{ else if eq .CommonLabels.severity "warning" }}warning{{ else }}danger{{ end }}',
  title:
    '{{ if eq .Status "resolved" }}Resolved{{ else }}{{ .CommonLabels.severity | toUpper }}{{ end }}: {{ .CommonLabels.alertname }}{{ with .CommonLabels.namespace }} in {{ . }}{{ end }}',
  title_link: '{{ .CommonAnnotations.runbook_url }}',
  // Alerts of one name need not mean the same for customers: what the first says stands for all.
  text: '{{ (index .Alerts 0).Annotations.summary }}{{ range .Alerts }}\n• {{ .Annotations.description }}{{ end }}\n<{{ .CommonAnnotations.runbook_url }}|What to do> · <{{ .CommonAnnotations.dashboard_url }}|Dashboard>',
});

function scale(duration: string, by: number): string {
  if (by === 1) return duration;
  const seconds =
    Number.parseInt(duration, 10) *
    ({ s: 1, m: 60, h: 3_600, d: 86_400 }[duration.at(-1) ?? ''] ?? Number.NaN);
  return `${Math.max(1, Math.round(seconds * by))}s`;
}
