import { stringify } from 'yaml';
import type { Contacts } from './contacts.ts';
import { ALERT_RULES, type AlertRule, RECORDING_RULES } from './rules.ts';
import { INTERVALS } from './thresholds.ts';

export const runbookOf = (alert: string) => `${alert}.md`;

const durationMs = (text: string) =>
  Number.parseFloat(text) * ({ s: 1, m: 60, h: 3_600, d: 86_400 }[text.at(-1) ?? ''] ?? Number.NaN) * 1_000;
/** Windows of a day and more move slowly, and cost more. */
const LONG_WINDOW_MS = durationMs('6h');

/** The rules as a rule file of Prometheus: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/ */
export function ruleFile(contacts: Contacts) {
  const slow = RECORDING_RULES.filter(
    ({ record }) => durationMs(record.match(/\d+[smhd]$/)?.[0] ?? '0s') >= LONG_WINDOW_MS,
  );
  const quick = RECORDING_RULES.filter((rule) => !slow.includes(rule));
  return {
    groups: [
      { name: 'order-pipeline-slow', interval: '1m', rules: slow },
      {
        // In this order, so that the alerts see the figures of the same moment.
        name: 'order-pipeline',
        interval: INTERVALS.evaluate,
        rules: [...quick, ...ALERT_RULES.map((rule) => alertingRule(rule, contacts))],
      },
    ],
  };
}

function alertingRule(rule: AlertRule, { runbooksUrl, grafanaUrl }: Contacts) {
  return {
    alert: rule.alert,
    expr: rule.expr,
    ...(rule.for === undefined ? {} : { for: rule.for }),
    ...(rule.keepFiringFor === undefined ? {} : { keep_firing_for: rule.keepFiringFor }),
    labels: { severity: rule.severity, urgency: rule.urgency, ...rule.labels },
    annotations: {
      summary: rule.summary,
      description: rule.description,
      runbook_url: `${runbooksUrl}/${runbookOf(rule.alert)}`,
      dashboard_url: `${grafanaUrl}/d/${rule.dashboard}`,
    },
  };
}

/** The same rules for the Prometheus operator. */
export function prometheusRule(contacts: Contacts) {
  return {
    apiVersion: 'monitoring.coreos.com/v1',
    kind: 'PrometheusRule',
    metadata: { name: 'order-pipeline' },
    spec: ruleFile(contacts),
  };
}

export type Target = { address: string; service: string };

/** Configuration of a Prometheus that scrapes the services at fixed addresses. */
export function prometheusConfig({
  targets,
  rules,
  alertmanager,
  scrapeInterval = INTERVALS.scrape,
  evaluationInterval = INTERVALS.evaluate,
}: {
  targets: readonly Target[];
  rules: string;
  alertmanager: string;
  scrapeInterval?: string;
  evaluationInterval?: string;
}) {
  return {
    global: { scrape_interval: scrapeInterval, evaluation_interval: evaluationInterval },
    rule_files: [rules],
    alerting: { alertmanagers: [{ static_configs: [{ targets: [alertmanager] }] }] },
    scrape_configs: targets.map(({ address, service }) => ({
      job_name: service,
      metrics_path: '/actuator/prometheus',
      static_configs: [{ targets: [address] }],
    })),
  };
}

/** YAML as it is committed, with the way to make it. */
export const generatedYaml = (value: unknown) =>
  `# Generated from monitoring/ by npm run docs. Do not edit.\n${stringify(value, { lineWidth: 0, aliasDuplicateObjects: false })}`;
