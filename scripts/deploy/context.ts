import type { Kubectl, KubernetesObject } from './kubectl.ts';
import type { DeploymentRecord } from './lock.ts';
import type { Manifests } from './manifests.ts';
import type { PodHttp } from './pod-http.ts';

/** What every command works with. */
export type Session = {
  kubectl: Kubectl;
  http: PodHttp;
  /** Moves back to the queue what a release dead-lettered since then. @returns how many messages */
  redrive: (codeVersion: string, since: Date) => Promise<number>;
  /** What an overlay held besides the two Deployments, at a release's commit. @throws where git does not have it */
  configurationAt: (release: string, overlay: string) => Promise<KubernetesObject[]>;
  /** A line for the operator. */
  say: (line: string) => void;
  /** Aborted by Ctrl-C, or when the lock was lost. */
  signal: AbortSignal;
  rolloutTimeoutSeconds: number;
  /** How long a candidate is watched in each step. */
  watchSeconds: number;
};

/** What the steps of a deployment work with. */
export type Context = Session & { tag: string; manifests: Manifests; record: DeploymentRecord };

/** Safe to run again: what is there already is left as it is. */
export type Step = { title: string; run: () => Promise<void> };
