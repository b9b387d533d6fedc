import { RemovalPolicy } from 'aws-cdk-lib';
import { Repository, RepositoryEncryption, TagMutability } from 'aws-cdk-lib/aws-ecr';
import { AccountPrincipal } from 'aws-cdk-lib/aws-iam';
import type { Construct } from 'constructs';
import { OrderStack, type Place } from './order-stack.ts';

export const REPOSITORIES = ['order-producer', 'order-consumer'] as const;

/**
 * The images, in one account for all environments. None is deleted by rule: a rollback needs earlier ones, and signatures
 * and the images of each processor have no tag by which a rule could tell that they are in use.
 */
export class RegistryStack extends OrderStack {
  readonly repositories: readonly Repository[];

  constructor(scope: Construct, place: Place) {
    super(scope, 'registry', place, 'Repositories of the images');
    this.repositories = REPOSITORIES.map((repositoryName) => {
      const repository = new Repository(this, repositoryName, {
        repositoryName,
        // What was tested is what is deployed: https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-tag-mutability.html
        imageTagMutability: TagMutability.IMMUTABLE,
        imageScanOnPush: true,
        encryption: RepositoryEncryption.AES_256,
        removalPolicy: RemovalPolicy.RETAIN,
      });
      for (const account of place.settings.pullingAccounts)
        repository.grantPull(new AccountPrincipal(account));
      return repository;
    });
  }
}
