/** When a candidate is better than nothing, and when it is worse than what runs. The one place to tune it. */
export const THRESHOLDS = {
  /** So many requests or messages must have been handled before the candidate may pass. */
  minHandled: 20,
  /** So many failures, or dead letters, count as evidence; fewer may be chance. */
  minFailures: 3,
  /** Share of failures above the stable pods' own. */
  extraErrorShare: 0.02,
  /** Share of dead letters above the stable pods' own. */
  extraDeadLetterShare: 0.002,
  /** Mean handling time as a multiple of the stable pods' own, … */
  slowdown: 2,
  /** … counted only above this, since twice a millisecond harms nobody. */
  slowAboveSeconds: 0.25,
  /** Share of the orders of before that the pods with all the traffic must handle in the same time, … */
  minThroughputShare: 0.2,
  /** … looked at only after this: connections follow a switch within 5 s. */
  stalledAfterSeconds: 8,
  /** Answer to one order through the preview Service, the median of several. */
  previewLatencySeconds: 1,
  /** A synthetic order must be stored within. */
  storedWithinSeconds: 30,
  /** After a deployment, so many pods may be missing, rounded up: an autoscaler adds them when it likes, … */
  unavailableShare: 0.25,
  /** … and this soon no more than that. */
  settledWithinSeconds: 60,
} as const;

export type Thresholds = { readonly [Name in keyof typeof THRESHOLDS]: number };
