/** What a team's own accounts and people are called: nothing of it is in the repository. */
export type Settings = {
  /** Undefined: the templates fit whichever account they are deployed into. */
  account: string | undefined;
  registryAccount: string;
  /** Accounts whose nodes may pull from this account's registry. */
  pullingAccounts: readonly string[];
  githubRepository: string;
  clusterAdminRoleArn: string;
  alertEmail: string;
};

/** Documentation only: https://docs.aws.amazon.com/general/latest/gr/aws-access-keys-best-practices.html, RFC 2606. */
const PLACEHOLDERS = {
  INFRA_REGISTRY_ACCOUNT: '123456789012',
  INFRA_GITHUB_REPOSITORY: 'example-owner/example-repository',
  INFRA_CLUSTER_ADMIN_ROLE_ARN: 'arn:aws:iam::123456789012:role/example-administrators',
  INFRA_ALERT_EMAIL: 'alerts@example.com',
} as const;

const FORMS: Readonly<Record<string, [pattern: RegExp, form: string]>> = {
  INFRA_ACCOUNT: [/^\d{12}$/, 'an account of 12 digits'],
  INFRA_REGISTRY_ACCOUNT: [/^\d{12}$/, 'an account of 12 digits'],
  INFRA_PULLING_ACCOUNTS: [/^\d{12}(,\d{12})*$/, 'accounts of 12 digits, with commas between'],
  INFRA_GITHUB_REPOSITORY: [/^[\w.-]+\/[\w.-]+$/, 'OWNER/REPOSITORY'],
  INFRA_CLUSTER_ADMIN_ROLE_ARN: [/^arn:aws:iam::\d{12}:role\/[\w+=,.@/-]+$/, 'the ARN of an IAM role'],
  INFRA_ALERT_EMAIL: [/^[^@\s]+@[^@\s]+$/, 'an e-mail address'],
};

/**
 * Reads the variables `INFRA_…`. Those that are missing get a placeholder and are named in `missing`: good enough to
 * look at templates and to test them, not to deploy them.
 * @throws {Error} that names every variable whose form is wrong
 */
export function readSettings(env: NodeJS.ProcessEnv): { settings: Settings; missing: string[] } {
  const wrong = Object.entries(FORMS).flatMap(([name, [pattern, form]]) =>
    env[name] && !pattern.test(env[name]) ? [`${name} must be ${form}, not "${env[name]}"`] : [],
  );
  if (wrong.length > 0) throw new Error(wrong.join('\n'));
  const value = (name: keyof typeof PLACEHOLDERS) => env[name] || PLACEHOLDERS[name];
  return {
    settings: {
      account: env['INFRA_ACCOUNT'] || undefined,
      registryAccount:
        env['INFRA_REGISTRY_ACCOUNT'] || env['INFRA_ACCOUNT'] || PLACEHOLDERS.INFRA_REGISTRY_ACCOUNT,
      pullingAccounts: env['INFRA_PULLING_ACCOUNTS']?.split(',').filter(Boolean) ?? [],
      githubRepository: value('INFRA_GITHUB_REPOSITORY'),
      clusterAdminRoleArn: value('INFRA_CLUSTER_ADMIN_ROLE_ARN'),
      alertEmail: value('INFRA_ALERT_EMAIL'),
    },
    missing: [
      ...(env['INFRA_ACCOUNT'] ? [] : ['INFRA_ACCOUNT']),
      ...Object.keys(PLACEHOLDERS).filter(
        (name) => !env[name] && !(name === 'INFRA_REGISTRY_ACCOUNT' && env['INFRA_ACCOUNT']),
      ),
    ],
  };
}
