import { type ParseArgsConfig, parseArgs } from 'node:util';
import { UsageError } from '../sqs-tool.ts';
import type { Environment } from './redrive.ts';

const NEVER_A_TAG = new Set(['latest']);

export type Arguments = {
  environment: Environment;
  imageTag?: string;
  to?: string;
  overlay: string;
  dryRun: boolean;
  isFirst: boolean;
  watchSeconds: number;
  rolloutTimeoutSeconds: number;
  lockWaitSeconds: number;
};

/** How long each step is watched unless told otherwise: staging is there to be quick. */
const WATCH_SECONDS: Record<Environment, number> = { staging: 15, production: 60 };
const ROLLOUT_TIMEOUT_SECONDS = 180;

const FLAGS = ['dry-run', 'first'] as const;
const VALUES = [
  'image-tag',
  'to',
  'overlay',
  'watch-seconds',
  'timeout-seconds',
  'lock-wait-seconds',
] as const;
type OptionName = (typeof FLAGS)[number] | (typeof VALUES)[number];

/**
 * @param defaults of a command
 * @throws {UsageError} for anything that is not exactly understood: a typing error must not deploy something else
 */
export function parseArguments(
  args: string[],
  allowed: OptionName[],
  usage: string,
  defaults: Pick<Arguments, 'lockWaitSeconds'> = { lockWaitSeconds: 0 },
): Arguments {
  const { positionals, values } = parse(args, allowed, usage);
  const [environment, ...rest] = positionals;
  if (environment !== 'staging' && environment !== 'production')
    throw new UsageError(`which environment? ${environment ?? 'none'} is not staging or production`, usage);
  if (rest.length > 0) throw new UsageError(`what is ${rest.join(' ')}?`, usage);
  const imageTag = tag(values['image-tag'], usage);
  const to = values['to'] as string | undefined;
  const parts = to?.split(',').map((part) => tag(part, usage)) ?? [];
  if (parts.length > 2) throw new UsageError(`--to=${to}: there are two services`, usage);
  const seconds = secondsOf(values, usage);
  return {
    environment,
    ...(imageTag === undefined ? {} : { imageTag }),
    ...(to === undefined ? {} : { to }),
    overlay: typeof values['overlay'] === 'string' ? values['overlay'] : `k8s/overlays/${environment}`,
    dryRun: values['dry-run'] === true,
    isFirst: values['first'] === true,
    watchSeconds: seconds('watch-seconds', WATCH_SECONDS[environment]),
    rolloutTimeoutSeconds: seconds('timeout-seconds', ROLLOUT_TIMEOUT_SECONDS),
    lockWaitSeconds: seconds('lock-wait-seconds', defaults.lockWaitSeconds),
  };
}

function parse(args: string[], allowed: OptionName[], usage: string) {
  const options: NonNullable<ParseArgsConfig['options']> = Object.fromEntries(
    allowed.map((name) => [name, { type: FLAGS.some((flag) => flag === name) ? 'boolean' : 'string' }]),
  );
  try {
    return parseArgs({ args, allowPositionals: true, options });
  } catch (error) {
    throw new UsageError(error instanceof Error ? error.message : String(error), usage);
  }
}

/** https://github.com/opencontainers/distribution-spec: what a tag may be. */
function tag(value: unknown, usage: string): string | undefined {
  if (value === undefined) return undefined;
  if (typeof value === 'string' && /^\w[\w.-]{0,127}$/.test(value) && !NEVER_A_TAG.has(value)) return value;
  throw new UsageError(`${value} is no tag to deploy: "latest" means another image every day`, usage);
}

const secondsOf =
  (values: Record<string, unknown>, usage: string) =>
  (name: OptionName, byDefault: number): number => {
    if (values[name] === undefined) return byDefault;
    const number = Number(values[name]);
    if (Number.isInteger(number) && number > 0 && number <= 3_600) return number;
    throw new UsageError(`--${name} must be a whole number of seconds, 1 to 3600`, usage);
  };
