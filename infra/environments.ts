import type { AppEnv } from '@orders/shared/runtime/config.ts';

/** Those that run on AWS. */
export type EnvironmentName = Exclude<AppEnv, 'dev'>;

/** What may differ between environments. Everything else is the same in all, and stands in the stacks. */
export type Environment = {
  region: string;
  /** Named, not looked up: synthesis asks AWS nothing, and a fourth zone of the region changes nothing. */
  zones: readonly string[];
  /**
   * Of Amazon S3 in the region, where the layers of images are:
   * `aws ec2 describe-managed-prefix-lists --filters Name=prefix-list-name,Values=com.amazonaws.REGION.s3`
   */
  s3PrefixList: string;
  /** Addresses of the VPC. Those of two environments must not overlap if the VPCs may be peered one day. */
  cidr: string;
  /** Who may reach the load balancer of order-producer. */
  clients: readonly string[];
  /** Who may reach the Kubernetes API over the internet; nobody where empty: then the pipeline needs a runner in the VPC. */
  publicKubernetesApi: readonly string[];
  kubernetes: { version: string; nodeType: string; minNodes: number; maxNodes: number };
  database: {
    instanceType: string;
    /** A standby in another zone, which takes over within a minute or two. */
    multiAz: boolean;
    storageGib: number;
    maxStorageGib: number;
    /** Point in time, to the second, within these days. */
    backupDays: number;
    deletionProtection: boolean;
  };
  /** How long CloudWatch keeps what services log, the acceptance journal among it. */
  applicationLogDays: number;
  audit: {
    /**
     * Every send, receive and delete as an event of CloudTrail, 0.10 US$ for 100,000: 0.32 US$ per million orders, 838 US$ a
     * month at 1,000 orders/s. With packed messages 0.003 and 8. docs/cost.md has all figures.
     */
    sqsCalls: boolean;
    /** For how long nobody can delete what was recorded. */
    lockDays: number;
  };
  /** Has a key for `MESSAGE_ENCRYPTION=kms`, which the overlay turns on: queue and dead letters hold no order in plain text. */
  encryptsMessages: boolean;
  /** Has the repositories of images; other environments pull from this account. */
  hasRegistry: boolean;
};

export const ENVIRONMENTS: Readonly<Record<EnvironmentName, Environment>> = {
  staging: {
    region: 'ap-northeast-2',
    zones: ['ap-northeast-2a', 'ap-northeast-2b', 'ap-northeast-2c'],
    s3PrefixList: 'pl-78a54011',
    cidr: '10.20.0.0/16',
    clients: ['10.20.0.0/16'],
    publicKubernetesApi: [],
    kubernetes: { version: '1.35', nodeType: 'm7g.large', minNodes: 2, maxNodes: 4 },
    database: {
      instanceType: 'm7g.large',
      multiAz: false,
      storageGib: 50,
      maxStorageGib: 200,
      backupDays: 7,
      deletionProtection: false,
    },
    applicationLogDays: 30,
    audit: { sqsCalls: false, lockDays: 30 },
    encryptsMessages: false,
    hasRegistry: false,
  },
  production: {
    region: 'ap-northeast-2',
    zones: ['ap-northeast-2a', 'ap-northeast-2b', 'ap-northeast-2c'],
    s3PrefixList: 'pl-78a54011',
    cidr: '10.30.0.0/16',
    clients: ['10.30.0.0/16'],
    publicKubernetesApi: [],
    kubernetes: { version: '1.35', nodeType: 'm7g.xlarge', minNodes: 3, maxNodes: 9 },
    database: {
      instanceType: 'm7g.xlarge',
      multiAz: true,
      storageGib: 200,
      maxStorageGib: 1_000,
      backupDays: 14,
      deletionProtection: true,
    },
    applicationLogDays: 90,
    audit: { sqsCalls: true, lockDays: 365 },
    encryptsMessages: true,
    hasRegistry: true,
  },
};
