/** The program of each service, from the root of the repository. */
export const SERVICE_SCRIPT = { producer: 'producer/src/main.ts', consumer: 'consumer/src/main.ts' } as const;

/**
 * How V8 runs both services, wherever they run: in the images, by `npm start`, in the fault campaign. A young generation
 * of 12 MB outlives a batch, a smaller one costs processor time; an old one that may grow by a fifth before it is
 * collected stays near to what is in use, far below its limit. `npm run bench -- memory` measures them.
 */
export const SERVICE_FLAGS = [
  '--max-semi-space-size=4',
  '--heap-growing-percent=20',
  '--max-old-space-size=256',
] as const;
