import { Duration, RemovalPolicy } from 'aws-cdk-lib';
import { InstanceType, type SecurityGroup, type Vpc } from 'aws-cdk-lib/aws-ec2';
import type { Key } from 'aws-cdk-lib/aws-kms';
import {
  Credentials,
  DatabaseInstance,
  DatabaseInstanceEngine,
  DatabaseSecret,
  ParameterGroup,
  PostgresEngineVersion,
  StorageType,
} from 'aws-cdk-lib/aws-rds';
import { HostedRotation, type ISecret, type Secret } from 'aws-cdk-lib/aws-secretsmanager';
import { StringParameter } from 'aws-cdk-lib/aws-ssm';
import type { Construct } from 'constructs';
import { acknowledge } from './acknowledge.ts';
import { OrderStack, type Place } from './order-stack.ts';
import { keepWithin } from './secrets.ts';

/** Passwords go into a URL without being encoded. Those of AWS's rotation as well. */
const EXCLUDED_CHARACTERS = ' %+~`#$&*()|[]{}:;<>?!\'/@"\\,=^';
const ROTATION_DAYS = 90;

/** PostgreSQL, and its passwords, which AWS's own functions rotate. */
export class DataStack extends OrderStack {
  readonly database: DatabaseInstance;
  /** What the consumers sign in with. */
  readonly secret: ISecret;

  constructor(
    scope: Construct,
    place: Place,
    { vpc, database: securityGroup, key }: { vpc: Vpc; database: SecurityGroup; key: Key },
  ) {
    super(scope, 'data', place, 'PostgreSQL and its passwords');
    const { database } = place.environment;
    const engine = DatabaseInstanceEngine.postgres({ version: PostgresEngineVersion.VER_17_9 });
    const vpcSubnets = { subnetGroupName: 'database' };
    const master = new DatabaseSecret(this, 'MasterSecret', {
      username: 'postgres',
      secretName: `orders/${place.name}/database-master`,
      encryptionKey: key,
      excludeCharacters: EXCLUDED_CHARACTERS,
    });
    this.database = new DatabaseInstance(this, 'Database', {
      instanceIdentifier: this.named('database'),
      engine,
      instanceType: new InstanceType(database.instanceType),
      vpc,
      vpcSubnets,
      securityGroups: [securityGroup],
      publiclyAccessible: false,
      multiAz: database.multiAz,
      databaseName: 'orders',
      credentials: Credentials.fromSecret(master),
      // Signing in with IAM's tokens instead of a password stays possible:
      // https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
      iamAuthentication: true,
      parameterGroup: new ParameterGroup(this, 'Parameters', {
        engine,
        description: 'Encrypted connections only',
        parameters: { 'rds.force_ssl': '1', ssl_min_protocol_version: 'TLSv1.2' },
      }),
      storageType: StorageType.GP3,
      allocatedStorage: database.storageGib,
      maxAllocatedStorage: database.maxStorageGib,
      storageEncrypted: true,
      storageEncryptionKey: key,
      backupRetention: Duration.days(database.backupDays),
      // In the night of Seoul, 03:00 to 03:30 and Sunday 04:00 to 04:30: one after the other.
      preferredBackupWindow: '18:00-18:30',
      preferredMaintenanceWindow: 'sat:19:00-sat:19:30',
      copyTagsToSnapshot: true,
      deletionProtection: database.deletionProtection,
      cloudwatchLogsExports: ['postgresql'],
      autoMinorVersionUpgrade: true,
      removalPolicy: RemovalPolicy.SNAPSHOT,
    });
    acknowledge(this.database, {
      'AwsSolutions-RDS11':
        'Nobody outside the VPC reaches the port, whatever its number; the NetworkPolicies and docs name 5432.',
      ...(database.multiAz
        ? {}
        : { 'AwsSolutions-RDS3': 'Staging may wait for its database to be restored: environments.ts' }),
      ...(database.deletionProtection
        ? {}
        : { 'AwsSolutions-RDS10': 'Staging may be torn down; a snapshot stays: environments.ts' }),
    });

    const consumers = new DatabaseSecret(this, 'Secret', {
      username: 'orders_1',
      dbname: 'orders',
      secretName: `orders/${place.name}/database`,
      encryptionKey: key,
      masterSecret: master,
      excludeCharacters: EXCLUDED_CHARACTERS,
    });
    // Adds host, port and engine, which the rotation functions read:
    // https://docs.aws.amazon.com/secretsmanager/latest/userguide/reference_secret_json_structure.html
    this.secret = consumers.attach(this.database);
    const rotate = (secret: Secret, attached: ISecret, hostedRotation: HostedRotation) => {
      attached.addRotationSchedule('Rotation', {
        hostedRotation,
        automaticallyAfter: Duration.days(ROTATION_DAYS),
        // A rotation fails until the database's roles are there: the first one comes with the first schedule.
        rotateImmediatelyOnUpdate: false,
      });
      keepWithin(this, secret);
    };
    const network = {
      vpc,
      vpcSubnets,
      securityGroups: [securityGroup],
      excludeCharacters: EXCLUDED_CHARACTERS,
    };
    const attachedMaster = this.database.secret ?? master;
    rotate(
      master,
      attachedMaster,
      HostedRotation.postgreSqlSingleUser({ ...network, functionName: this.named('rotate-master') }),
    );
    // Two users in turn: the password before this one stays valid until the next rotation (docs/adr/0012).
    rotate(
      consumers,
      this.secret,
      HostedRotation.postgreSqlMultiUser({
        ...network,
        masterSecret: master,
        functionName: this.named('rotate-consumers'),
      }),
    );
    new StringParameter(this, 'Host', {
      parameterName: `/orders/${place.name}/database-host`,
      description: 'PostgreSQL',
      stringValue: this.database.dbInstanceEndpointAddress,
    });
  }
}
