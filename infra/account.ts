import { CloudFormation, type StackEvent } from '@aws-sdk/client-cloudformation';
import { STS } from '@aws-sdk/client-sts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { ENVIRONMENTS, type EnvironmentName } from './environments.ts';
import { readSettings, type Settings } from './settings.ts';

/** What tells an environment's account apart from another, in which nothing may happen. */
export type Account = { cloudFormation: CloudFormation; settings: Settings };

/**
 * The account of an environment, by the credentials of this shell, as the AWS CLI finds them.
 * @throws {StartupError} a setting is missing, the credentials have expired, or they are for another account or region
 */
export async function openAccount(name: EnvironmentName, env: NodeJS.ProcessEnv): Promise<Account> {
  const { settings, missing } = readSettingsOrExplain(env);
  if (missing.length > 0)
    throw new StartupError(`not set: ${missing.join(', ')} (docs/infrastructure.md, What a team sets)`);
  const { region } = ENVIRONMENTS[name];
  const asked = env['AWS_REGION'] || env['AWS_DEFAULT_REGION'];
  if (asked && asked !== region)
    throw new StartupError(`AWS_REGION is ${asked}, and ${name} is in ${region}: infra/environments.ts`);
  if (env['AWS_ENDPOINT_URL'])
    console.error(
      `for ${name}, this asks ${new URL(env['AWS_ENDPOINT_URL']).origin} (AWS_ENDPOINT_URL), not AWS`,
    );
  const sts = new STS({ region });
  const identity = await sts
    .getCallerIdentity()
    .catch((error) => {
      throw explainAwsError(error);
    })
    .finally(() => sts.destroy());
  if (identity.Account !== settings.account)
    throw new StartupError(
      `these credentials are for account ${identity.Account}, and INFRA_ACCOUNT says that ${name} is in ${settings.account}`,
    );
  return { cloudFormation: new CloudFormation({ region }), settings };
}

function readSettingsOrExplain(env: NodeJS.ProcessEnv): ReturnType<typeof readSettings> {
  try {
    return readSettings(env);
  } catch (error) {
    throw new StartupError((error as Error).message);
  }
}

const EXPIRED = ['ExpiredToken', 'ExpiredTokenException', 'TokenRefreshRequired'];
const UNKNOWN = [
  'InvalidClientTokenId',
  'UnrecognizedClientException',
  'SignatureDoesNotMatch',
  'AuthFailure',
];
const REFUSED = ['AccessDenied', 'AccessDeniedException', 'UnauthorizedOperation'];

/** What a person can do about it, in one line. Anything else is passed on as it is. */
export function explainAwsError(error: unknown): Error {
  const { name = '', message = '' } = error as Error;
  const explained = (text: string) => new StartupError(text, { cause: error });
  // How the providers of single sign-on say it.
  if (EXPIRED.includes(name) || (/token|session|sso/i.test(message) && /expired/i.test(message)))
    return explained(`the credentials have expired: sign in again (aws sso login). AWS said: ${message}`);
  if (name === 'CredentialsProviderError')
    return explained(`no credentials: sign in, or set AWS_PROFILE. ${message}`);
  if (UNKNOWN.includes(name)) return explained(`AWS does not know these credentials: ${message}`);
  if (REFUSED.includes(name)) return explained(`a right is missing: ${message}`);
  if (
    /ENOTFOUND|ECONNREFUSED|ETIMEDOUT|TimeoutError/.test(
      `${name} ${message} ${(error as { code?: string }).code}`,
    )
  )
    return explained(`AWS cannot be reached: ${message || name}`);
  return error instanceof Error ? error : new Error(String(error));
}

/**
 * Why a stack cannot be deployed as it is, and what to do; undefined where it can be.
 * https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/view-stack-events.html#cfn-console-view-stack-data-resources-status-codes
 */
export function stuck(stackName: string, status: string): string | undefined {
  const tell = (what: string) => `${stackName} is in ${status}: ${what}`;
  const events = `aws cloudformation describe-stack-events --stack-name ${stackName}`;
  if (status === 'REVIEW_IN_PROGRESS') return undefined;
  if (status.endsWith('_IN_PROGRESS')) return tell('somebody deploys it now. Wait until it is done');
  if (status === 'UPDATE_ROLLBACK_FAILED')
    return tell(
      `see why (${events}), mend it, then: aws cloudformation continue-update-rollback --stack-name ${stackName}`,
    );
  if (status === 'ROLLBACK_FAILED' || status === 'DELETE_FAILED')
    return tell(
      `see what could not be deleted (${events}), mend it, then: aws cloudformation delete-stack --stack-name ${stackName}`,
    );
  if (status === 'CREATE_FAILED' || status === 'UPDATE_FAILED')
    return tell(`see why (${events}), then: aws cloudformation rollback-stack --stack-name ${stackName}`);
  return undefined;
}

/** What failed in the newest deployment of a stack, and what to do about what can be said. Newest event first, as AWS has them. */
export function explainFailure(stackName: string, events: readonly StackEvent[]): string[] {
  const begin = events.findIndex(
    ({ LogicalResourceId, ResourceStatus }) =>
      LogicalResourceId === stackName && /^(CREATE|UPDATE|REVIEW)_IN_PROGRESS$/.test(ResourceStatus ?? ''),
  );
  return events
    .slice(0, begin === -1 ? undefined : begin)
    .filter(
      ({ ResourceStatus = '', ResourceStatusReason = '', LogicalResourceId }) =>
        ResourceStatus.endsWith('_FAILED') &&
        LogicalResourceId !== stackName &&
        !/cancelled/i.test(ResourceStatusReason),
    )
    .map(({ LogicalResourceId, ResourceType, ResourceStatusReason = 'no reason given' }) => {
      const what = `${stackName}/${LogicalResourceId} ${ResourceType}: ${ResourceStatusReason}`;
      if (/already ?exist|AlreadyExists|BucketAlreadyOwnedByYou/i.test(ResourceStatusReason))
        return `${what}. The name is taken by something that no stack has: remove it if nobody needs it, or take it into the stack (cdk import)`;
      if (/not authorized|AccessDenied|Access Denied/i.test(ResourceStatusReason))
        return `${what}. A right is missing: get it, and run this again`;
      return what;
    });
}
