import { describe, expect, it } from 'vitest';
import { COUNTS, type Counts } from '../cost.ts';
import { ENVIRONMENTS, type EnvironmentName } from '../environments.ts';
import { PRICED_REGION } from '../prices.ts';
import { ofType } from './synthesised.ts';

describe.each<EnvironmentName>(['staging', 'production'])('cost of %s', (name) => {
  it('counts what the stacks make', () => {
    const number = (type: string) => ofType(name, type).length;
    const metrics = ofType(name, 'AWS::CloudWatch::Alarm').map(({ Properties: { Metrics } }) =>
      Array.isArray(Metrics) ? Metrics.filter(({ MetricStat }) => MetricStat !== undefined).length : 1,
    );
    const [template] = ofType(name, 'AWS::EC2::LaunchTemplate').map(
      ({ Properties }) =>
        Properties['LaunchTemplateData'] as { BlockDeviceMappings: { Ebs: { VolumeSize: number } }[] },
    );
    expect(COUNTS[name]).toEqual({
      endpoints: ofType(name, 'AWS::EC2::VPCEndpoint').filter(
        ({ Properties }) => Properties['VpcEndpointType'] === 'Interface',
      ).length,
      keys: number('AWS::KMS::Key'),
      secrets: number('AWS::SecretsManager::Secret'),
      alarmMetrics: metrics.reduce((sum, each) => sum + each, 0),
      compositeAlarms: number('AWS::CloudWatch::CompositeAlarm'),
      dashboards: number('AWS::CloudWatch::Dashboard'),
      nodeDiskGib: template?.BlockDeviceMappings[0]?.Ebs.VolumeSize ?? 0,
    } satisfies Counts);
  });

  it('knows no resource by the hour that the page leaves out', () => {
    for (const type of ['AWS::EC2::NatGateway', 'AWS::EC2::EIP', 'AWS::RDS::DBProxy', 'AWS::KMS::ReplicaKey'])
      expect(ofType(name, type)).toEqual([]);
    expect(ENVIRONMENTS[name].region).toBe(PRICED_REGION);
  });
});
