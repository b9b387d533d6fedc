import { alertmanagerConfig, productionDelivery } from './alertmanager.ts';
import { readContacts } from './contacts.ts';
import { grafanaDashboard } from './grafana.ts';
import { metricsPage } from './metrics-page.ts';
import { DASHBOARDS } from './panels.ts';
import { generatedYaml, prometheusConfig, prometheusRule, ruleFile } from './prometheus.ts';
import { runbookIndex } from './runbook-index.ts';

/** Every generated file of the monitoring, by its path in the repository. `npm run docs` writes them. */
export function monitoringFiles(): Record<string, string> {
  const contacts = readContacts();
  return {
    'monitoring/prometheus/rules.yml': generatedYaml(ruleFile(contacts)),
    'monitoring/alertmanager/alertmanager.yml': generatedYaml(
      alertmanagerConfig(contacts, productionDelivery(contacts)),
    ),
    'monitoring/stack/prometheus.yml': generatedYaml(
      prometheusConfig({
        targets: [
          { address: 'producer:8080', service: 'order-producer' },
          { address: 'consumer:8081', service: 'order-consumer' },
        ],
        rules: '/etc/prometheus/rules.yml',
        alertmanager: 'alertmanager:9093',
      }),
    ),
    'monitoring/stack/alertmanager.yml': generatedYaml(alertmanagerConfig(contacts, {})),
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
