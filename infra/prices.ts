/**
 * Where a price was read:
 * - `aws`: AWS's own page.
 * - `quoted`: a public table that quotes AWS's price list of the region, with file and usage type. Not the list itself.
 * - `derived`: computed from such a price, because the table does not have this one.
 * - `elsewhere`: the price of us-east-1. That of the region was not found.
 */
type Check = 'aws' | 'quoted' | 'derived' | 'elsewhere';

export type Price = {
  what: string;
  /** US dollars, on demand, without tax, free tier, or discount. */
  dollars: number;
  per: string;
  check: Check;
  /** AWS's page or price list that has it: look there before you rely on the price. */
  source: string;
};

/** The region that the prices are for. */
export const PRICED_REGION = 'ap-northeast-2';
/** When AWS's lists were read, by us or by who quotes them. */
export const PRICES_READ_ON = '2026-10-01';

/** Price list of one service in the region, readable without an account. */
const list = (service: string) =>
  `https://pricing.us-east-1.amazonaws.com/offers/v1.0/aws/${service}/current/${PRICED_REGION}/index.json`;
const EC2 = list('AmazonEC2');
const RDS = list('AmazonRDS');
const CLOUDWATCH = list('AmazonCloudWatch');

/** All prices that any figure of this project is computed from. */
export const PRICES = {
  eksCluster: { what: 'EKS cluster', dollars: 0.1, per: 'hour', check: 'quoted', source: list('AmazonEKS') },
  'm7g.large': { what: 'EC2 m7g.large', dollars: 0.1003, per: 'hour', check: 'quoted', source: EC2 },
  'm7g.xlarge': { what: 'EC2 m7g.xlarge', dollars: 0.2006, per: 'hour', check: 'quoted', source: EC2 },
  disk: { what: 'EBS gp3', dollars: 0.0912, per: 'GB and month', check: 'quoted', source: EC2 },
  'db.m7g.large': {
    what: 'RDS for PostgreSQL, db.m7g.large, one zone',
    dollars: 0.2344,
    per: 'hour',
    check: 'quoted',
    source: RDS,
  },
  'db.m7g.xlarge': {
    what: 'RDS for PostgreSQL, db.m7g.xlarge, one zone: twice the next smaller one',
    dollars: 0.4688,
    per: 'hour',
    check: 'derived',
    source: RDS,
  },
  databaseStorage: {
    what: 'RDS gp3 storage, one zone',
    dollars: 0.131,
    per: 'GB and month',
    check: 'quoted',
    source: RDS,
  },
  endpoint: {
    what: 'Interface endpoint, per zone',
    dollars: 0.013,
    per: 'hour',
    check: 'quoted',
    source: list('AmazonVPC'),
  },
  endpointData: {
    what: 'Data through an interface endpoint',
    dollars: 0.01,
    per: 'GB',
    check: 'quoted',
    source: list('AmazonVPC'),
  },
  loadBalancer: {
    what: 'Application Load Balancer',
    dollars: 0.0225,
    per: 'hour',
    check: 'quoted',
    source: list('AWSELB'),
  },
  loadBalancerUnits: {
    what: 'The same, capacity unit (LCU), of which 1 GB takes one for an hour',
    dollars: 0.008,
    per: 'LCU and hour',
    check: 'quoted',
    source: list('AWSELB'),
  },
  key: { what: 'KMS key', dollars: 1, per: 'month', check: 'quoted', source: list('awskms') },
  secret: { what: 'Secret', dollars: 0.4, per: 'month', check: 'quoted', source: list('AWSSecretsManager') },
  alarmMetric: {
    what: 'CloudWatch alarm, per metric that it evaluates',
    dollars: 0.1,
    per: 'month',
    check: 'quoted',
    source: CLOUDWATCH,
  },
  compositeAlarm: {
    what: 'Composite alarm',
    dollars: 0.5,
    per: 'month',
    check: 'quoted',
    source: CLOUDWATCH,
  },
  dashboard: {
    what: 'CloudWatch dashboard',
    dollars: 3,
    per: 'month',
    check: 'elsewhere',
    source: 'https://aws.amazon.com/cloudwatch/pricing/',
  },
  logs: {
    what: 'CloudWatch Logs, written',
    dollars: 0.76,
    per: 'GB',
    check: 'quoted',
    source: CLOUDWATCH,
  },
  logStorage: {
    what: 'CloudWatch Logs, kept',
    dollars: 0.0314,
    per: 'GB and month',
    check: 'quoted',
    source: CLOUDWATCH,
  },
  sqsRequests: {
    what: 'SQS, standard queue, per started 64 KiB',
    dollars: 0.4,
    per: 'million requests',
    check: 'elsewhere',
    source: 'https://aws.amazon.com/sqs/pricing/',
  },
  dataEvents: {
    what: 'CloudTrail data events',
    dollars: 0.1,
    per: '100,000 events',
    check: 'aws',
    source: 'https://aws.amazon.com/cloudtrail/pricing/',
  },
} as const satisfies Record<string, Price>;
