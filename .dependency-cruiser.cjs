/** The layers of the architecture (docs/architecture.md): dependencies point inward. */
const services = { producer: '^producer/', consumer: '^consumer/', shared: '^shared/' };
const tests = '\\.(test|contract)\\.ts$';

module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    {
      name: 'domain-is-pure',
      comment: 'The domain knows no SDK, no HTTP, no adapter.',
      severity: 'error',
      from: { path: '^(producer|consumer)/src/domain/', pathNot: tests },
      to: { path: ['/src/(http|sqs|adapters|dlq)/', 'node_modules/(@aws-sdk|fastify|pg|prom-client|pino)/'] },
    },
    {
      name: 'domain-stays-inside',
      severity: 'error',
      from: { path: '^(producer|consumer)/src/domain/', pathNot: tests },
      to: { path: '/src/(app|main|config|metrics)\\.ts$' },
    },
    { name: 'shared-knows-no-service', severity: 'error', from: { path: services.shared }, to: { path: [services.producer, services.consumer, '^(dev|test|scripts|bench)/'] } },
    { name: 'producer-not-consumer', severity: 'error', from: { path: services.producer }, to: { path: services.consumer } },
    { name: 'consumer-not-producer', severity: 'error', from: { path: services.consumer }, to: { path: services.producer } },
    {
      name: 'production-needs-no-dev',
      severity: 'error',
      from: { path: '^(producer|consumer|shared)/src/', pathNot: tests },
      to: { path: '^(dev|test|scripts|bench)/' },
    },
    { name: 'http-not-adapters', severity: 'error', from: { path: '/src/http/', pathNot: tests }, to: { path: '/src/(adapters|sqs)/' } },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default'] },
  },
};
