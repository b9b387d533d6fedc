import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

const inPackages = [
  'shared/src/**',
  'producer/src/**',
  'consumer/src/**',
  'dev/**',
  'scripts/**',
  'monitoring/**',
  'test/**',
];
const monitoring = 'monitoring/check/*.test.ts';
const alerts = 'monitoring/alerts/running-pair.test.ts';
const containers = '**/*.container.test.ts';
const cluster = 'test/k8s/*.k8s.test.ts';
const deployed = 'test/deployed/*.test.ts';
const rotation = 'test/rotation/*.test.ts';

/** unit: one part, fakes behind ports. integration: real services on the embedded defaults. containers: real engines.
 *  manifests: what is in k8s/. infra: what is in infra/, by `npm run infra:test`. k8s: a real cluster. monitoring: real
 *  Prometheus and Alertmanager. alerts: those, and the running pair. rotation: secrets that change under load, by
 *  `npm run test:rotation`. deployed: services that run somewhere. `npm test` runs the first
 *  three. */
export default defineConfig({
  test: {
    // They wait more than they work: on two processors three at once take half of the time that one after the other does.
    maxWorkers: Math.max(3, availableParallelism() - 1),
    projects: [
      {
        extends: true,
        test: {
          name: 'unit',
          testTimeout: 60_000,
          hookTimeout: 60_000,
          include: inPackages.map((path) => `${path}/*.test.ts`),
          exclude: [containers, monitoring, alerts, 'test/**'],
        },
      },
      {
        extends: true,
        test: {
          name: 'integration',
          include: ['test/**/*.test.ts'],
          exclude: [containers, 'test/k8s/**', deployed, rotation],
          testTimeout: 180_000,
          hookTimeout: 180_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'containers',
          include: [containers],
          exclude: ['node_modules/**'],
          testTimeout: 240_000,
          hookTimeout: 240_000,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        test: {
          name: 'manifests',
          include: ['test/k8s/*.test.ts'],
          exclude: [cluster],
          testTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'infra',
          include: ['infra/test/*.test.ts'],
          testTimeout: 120_000,
          // One process for all files: loading the CDK and synthesising take longer than all tests.
          isolate: false,
          fileParallelism: false,
        },
      },
      {
        extends: true,
        test: {
          name: 'k8s',
          include: [cluster],
          testTimeout: 300_000,
          hookTimeout: 120_000,
        },
      },
      {
        extends: true,
        test: {
          name: 'monitoring',
          include: [monitoring],
          testTimeout: 120_000,
          hookTimeout: 120_000,
          fileParallelism: false,
        },
      },
      { extends: true, test: { name: 'alerts', include: [alerts] } },
      {
        extends: true,
        test: { name: 'rotation', include: [rotation], testTimeout: 600_000, hookTimeout: 240_000 },
      },
      {
        extends: true,
        test: { name: 'deployed', include: [deployed], testTimeout: 90_000 },
      },
    ],
    coverage: {
      provider: 'v8',
      include: ['shared/src/**/*.ts', 'producer/src/**/*.ts', 'consumer/src/**/*.ts'],
      // The entry points run as processes of their own in the integration tests, where v8 of this process sees nothing.
      exclude: ['**/*.test.ts', '**/*.contract.ts', '**/main.ts'],
      reporter: ['text-summary', 'html', 'json-summary', 'lcovonly'],
      thresholds: { lines: 80, branches: 80, functions: 80 },
    },
  },
});
