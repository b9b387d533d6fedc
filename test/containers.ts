import { GenericContainer, getContainerRuntimeClient } from 'testcontainers';

/**
 * Is there a container engine? Suites that need one are skipped, with the reason in their name, where there is none.
 * @throws when there is none and REQUIRE_CONTAINERS=1 says there must be
 */
export async function containersAvailable(): Promise<{ available: boolean; reason: string }> {
  try {
    const { info } = await getContainerRuntimeClient();
    return { available: true, reason: `engine ${info.containerRuntime.host}` };
  } catch (cause) {
    if (process.env['REQUIRE_CONTAINERS'] === '1')
      throw new Error('REQUIRE_CONTAINERS=1, and no engine', { cause });
    return { available: false, reason: 'skipped: no container engine' };
  }
}

/** A container whose published ports are bound to 127.0.0.1, not to every address of the machine. */
export class LoopbackContainer extends GenericContainer {
  protected override async beforeContainerCreated(): Promise<void> {
    const bindings: Record<string, { HostPort?: string }[]> = this.hostConfig.PortBindings ?? {};
    for (const binding of Object.values(bindings).flat()) Object.assign(binding, { HostIp: '127.0.0.1' });
  }
}
