import { alertmanagerConfig, productionDelivery } from './alertmanager.ts';
import { readContacts } from './contacts.ts';
import { grafanaDashboard } from './grafana.ts';
import { metricsPage } from './metrics-page.ts';
import { DASHBOARDS } from './panels.ts';
import { generatedYaml, prometheusRule, ruleFile } from './prometheus.ts';
import { runbookIndex } from './runbook-index.ts';

/** Every generated file of the monitoring, by its path in the repository. `npm run docs` writes them. */
export function monitoringFiles(): Record<string, string> {
  const contacts = readContacts();
  return {
    'monitoring/prometheus/rules.yml': generatedYaml(ruleFile(contacts)),
    'monitoring/alertmanager/alertmanager.yml': generatedYaml(
      alertmanagerConfig(contacts, productionDelivery(contacts)),
    ),
    ...Object.fromEntries(
      DASHBOARDS.map((dashboard) => [
        `monitoring/grafana/${dashboard.uid}.json`,
        `${JSON.stringify(grafanaDashboard(dashboard), null, 2)}\n`,
      ]),
    ),
    'docs/metrics.md': metricsPage(),
    'docs/runbooks/README.md': runbookIndex(contacts, 'en'),
    'docs/runbooks/README.ko.md': runbookIndex(contacts, 'ko'),
    'k8s/components/alerts/prometheus-rule.yaml': generatedYaml(prometheusRule(contacts)),
  };
}
