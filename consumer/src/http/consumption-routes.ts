import type { HttpServer } from '@orders/shared/http/server.ts';
import type { Logger } from '@orders/shared/runtime/logger.ts';
import { z } from 'zod';

export type ConsumptionRoutesOptions = {
  consumption: {
    readonly pause: { readonly by: string | undefined; readonly since: Date } | undefined;
    set: (paused: boolean, by: string | undefined) => boolean;
  };
  /** Is told who changed it. */
  audit: Logger;
};

/** Pauses and resumes polls. On no page from which everybody tries requests. */
export async function consumptionRoutes(
  app: HttpServer,
  { consumption, audit }: ConsumptionRoutesOptions,
): Promise<void> {
  const state = () => consumptionState(consumption.pause);
  app.get('/actuator/consumption', { config: { access: 'operations' }, schema: { hide: true } }, async () =>
    state(),
  );
  app.post(
    '/actuator/consumption',
    {
      config: { access: 'operations:write' },
      schema: { hide: true, body: z.strictObject({ paused: z.boolean() }) },
    },
    async ({ body: { paused }, client, trace: { traceId } }) => {
      if (consumption.set(paused, client.id))
        audit.info(
          { audit: 'consumption', client: client.id, paused, traceId },
          paused ? 'consuming paused' : 'consuming resumed',
        );
      return state();
    },
  );
}

/** As routes and health show it. */
export const consumptionState = (pause: ConsumptionRoutesOptions['consumption']['pause']) => ({
  paused: pause !== undefined,
  ...(pause?.by === undefined ? {} : { by: pause.by }),
  ...(pause ? { since: pause.since.toISOString() } : {}),
});
