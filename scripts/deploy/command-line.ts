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
  watchSeconds: number;
  rolloutTimeoutSeconds: number;
};

/** How long each step is watched unless told otherwise: staging is there to be quick. */
const WATCH_SECONDS: Record<Environment, number> = { staging: 15, production: 60 };
const ROLLOUT_TIMEOUT_SECONDS = 180;

type OptionName = 'image-tag' | 'to' | 'overlay' | 'dry-run' | 'watch-seconds' | 'timeout-seconds';

/** @throws {UsageError} for anything that is not exactly understood: a typing error must not deploy something else */
export function parseArguments(args: string[], allowed: OptionName[], usage: string): Arguments {
  const { positionals, values } = parse(args, allowed, usage);
  const [environment, ...rest] = positionals;
  if (environment !== 'staging' && environment !== 'production')
    throw new UsageError(`which environment? ${environment ?? 'none'} is not staging or production`, usage);
  if (rest.length > 0) throw new UsageError(`what is ${rest.join(' ')}?`, usage);
  const [imageTag, to] = [tag(values['image-tag'], usage), tag(values['to'], usage)];
  return {
    environment,
    ...(imageTag === undefined ? {} : { imageTag }),
    ...(to === undefined ? {} : { to }),
    overlay: typeof values['overlay'] === 'string' ? values['overlay'] : `k8s/overlays/${environment}`,
    dryRun: values['dry-run'] === true,
    watchSeconds: seconds(values['watch-seconds'], WATCH_SECONDS[environment], 'watch-seconds', usage),
    rolloutTimeoutSeconds: seconds(
      values['timeout-seconds'],
      ROLLOUT_TIMEOUT_SECONDS,
      'timeout-seconds',
      usage,
    ),
  };
}

function parse(args: string[], allowed: OptionName[], usage: string) {
  const options: NonNullable<ParseArgsConfig['options']> = Object.fromEntries(
    allowed.map((name) => [name, { type: name === 'dry-run' ? 'boolean' : 'string' }]),
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

function seconds(value: unknown, byDefault: number, name: string, usage: string): number {
  if (value === undefined) return byDefault;
  const number = Number(value);
  if (Number.isInteger(number) && number > 0 && number <= 3_600) return number;
  throw new UsageError(`--${name} must be a whole number of seconds, 1 to 3600`, usage);
}
