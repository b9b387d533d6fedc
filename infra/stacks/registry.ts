import { RemovalPolicy } from 'aws-cdk-lib';
import { Repository, RepositoryEncryption, TagMutability } from 'aws-cdk-lib/aws-ecr';
import { AccountPrincipal } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';
import { OrderStack, type Place } from './order-stack.ts';

export const REPOSITORIES = ['order-producer', 'order-consumer'] as const;

/**
 * Where the copies of other people's images go, by their own names: no node of the VPC reaches another registry. ECR's
 * pull-through cache would need a way to the internet for the first pull of each:
 * https://docs.aws.amazon.com/AmazonECR/latest/userguide/pull-through-cache.html
 * docs/first-deployment.md copies what the charts name.
 */
export const COPIES = [
  'eks/aws-load-balancer-controller',
  'external-secrets/external-secrets',
  'grafana/grafana',
  'ingress-nginx/kube-webhook-certgen',
  'kedacore/keda',
  'kedacore/keda-admission-webhooks',
  'kedacore/keda-metrics-apiserver',
  'kiwigrid/k8s-sidecar',
  'kube-state-metrics/kube-state-metrics',
  'prometheus-operator/prometheus-config-reloader',
  'prometheus-operator/prometheus-operator',
  'prometheus/alertmanager',
  'prometheus/node-exporter',
  'prometheus/prometheus',
] as const;

/**
 * The images, in one account for all environments. None is deleted by rule: a rollback needs earlier ones, and signatures
 * and the images of each processor have no tag by which a rule could tell that they are in use.
 */
export class RegistryStack extends OrderStack {
  readonly repositories: readonly Repository[];

  constructor(scope: Construct, place: Place) {
    super(scope, 'registry', place, 'Repositories of the images');
    this.repositories = [...REPOSITORIES, ...COPIES].map((repositoryName) => {
      const repository = new Repository(this, repositoryName, {
        repositoryName,
        // What was tested is what is deployed: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html
        imageTagMutability: TagMutability.IMMUTABLE,
        imageScanOnPush: true,
        encryption: RepositoryEncryption.AES_256,
        removalPolicy: RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE,
      });
      for (const account of place.settings.pullingAccounts)
        repository.grantPull(new AccountPrincipal(account));
      return repository;
    });
  }
}
