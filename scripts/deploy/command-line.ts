import { z } from 'zod';
import { wholeNumber } from '../command.ts';

export type Environment = 'staging' | 'production';

/** What the three commands of a deployment have in common. */
export type Settings = {
  environment: Environment;
  'watch-seconds'?: number | undefined;
  'timeout-seconds'?: number;
  'lock-wait-seconds'?: number | undefined;
};

/** How long each step is watched unless told otherwise: staging is there to be quick. */
export const WATCH_SECONDS: Record<Environment, number> = { staging: 15, production: 60 };
export const ROLLOUT_TIMEOUT_SECONDS = 180;

export const seconds = wholeNumber(1, 3_600);

export const NEEDS_KUBECTL = 'kubectl with access to the cluster.';

export const deployerEnvironment = {
  schema: z.enum(['staging', 'production']),
  description: "the namespace in kubectl's current cluster",
};

/** https://github.com/opencontainers/distribution-spec: what a tag may be. */
export const tag = z
  .string()
  .regex(/^\w[\w.-]{0,127}$/, 'is no tag: up to 128 letters, digits, dots, hyphens and underscores')
  .refine((name) => name !== 'latest', 'is no tag to deploy: it means another image every day');

/** Of an image: runs what was verified, also where somebody has moved the tag since. */
export const digest = (service: string) => ({
  takes: 'sha256:DIGEST',
  description: `digest that the image of ${service} must have; defaults to that of the tag`,
  schema: z
    .string()
    .regex(/^sha256:[0-9a-f]{64}$/, 'is no digest: sha256: and 64 hexadecimal digits')
    .optional(),
});

/** One for each service, or one for both. */
export const tags = z
  .string()
  .transform((text) => text.split(','))
  .pipe(z.array(tag).max(2, 'names more than two releases: there are two services'))
  .transform((names) => names.join(','));

export const watchSeconds = {
  takes: 'N',
  description: `how long each step is watched; ${WATCH_SECONDS.staging} in staging, ${WATCH_SECONDS.production} in production`,
  schema: seconds.optional(),
};

export const timeoutSeconds = {
  takes: 'N',
  description: 'how long pods may take to become ready',
  schema: seconds.default(ROLLOUT_TIMEOUT_SECONDS),
};
