import {
  consumerPort,
  EMULATOR_PORT,
  type Environment,
  integer,
  loadConfig,
  producerPort,
} from '@orders/shared/runtime/config.ts';
import { StartupError } from '@orders/shared/runtime/startup-error.ts';
import { z } from 'zod';
import { freePorts, isPortTaken, portOwner } from './port-owner.ts';

export const emulatorPort = integer(0, 65_535)
  .default(EMULATOR_PORT)
  .describe('port of the embedded SQS emulator');

/** In the order in which they start; the queue is the last to stop. */
export const SERVICES = ['emulator', 'producer', 'consumer'] as const;

export type ServiceName = (typeof SERVICES)[number];
export type Ports = Record<ServiceName, number>;

const PORT_VARIABLE: Record<ServiceName, string> = {
  emulator: 'EMULATOR_PORT',
  producer: 'PRODUCER_PORT',
  consumer: 'CONSUMER_PORT',
};

/** @throws {StartupError} */
export function loadPorts(env: Environment): Ports {
  const schema = z.object({
    EMULATOR_PORT: emulatorPort,
    PRODUCER_PORT: producerPort,
    CONSUMER_PORT: consumerPort,
  });
  const { EMULATOR_PORT, PRODUCER_PORT, CONSUMER_PORT } = loadConfig(schema, env);
  return { emulator: EMULATOR_PORT, producer: PRODUCER_PORT, consumer: CONSUMER_PORT };
}

/** @throws {StartupError} naming who has each port that is taken, and how to choose others */
export async function choosePorts(wanted: Ports, services: readonly ServiceName[]): Promise<Ports> {
  const free = await freePorts(SERVICES.length);
  const entries = SERVICES.map((name, index) => [name, wanted[name] || (free[index] as number)] as const);
  const taken: ServiceName[] = [];
  for (const [name, port] of entries) {
    if (services.includes(name) && (await isPortTaken(port))) taken.push(name);
  }
  const ports = Object.fromEntries(entries) as Ports;
  if (taken.length > 0) throw new StartupError(await takenMessage(taken, ports));
  const double = SERVICES.find((name) =>
    SERVICES.some((other) => other !== name && ports[other] === ports[name]),
  );
  if (double) throw new StartupError(`${PORT_VARIABLE[double]}: port ${ports[double]} is chosen twice`);
  return ports;
}

async function takenMessage(taken: ServiceName[], ports: Ports): Promise<string> {
  const lines = taken.map((name) => {
    const owner = portOwner(ports[name]);
    const by = owner ? `by process ${owner.pid}: ${owner.command.slice(0, 120)}` : 'by another process';
    return `port ${ports[name]} of the ${name} is taken ${by}`;
  });
  const others = await freePorts(taken.length);
  const choice = taken.map((name, index) => `${PORT_VARIABLE[name]}=${others[index]}`).join(' ');
  return [...lines, `End it, or choose other ports, for example: ${choice} npm start`].join('\n');
}
