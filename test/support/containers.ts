import { GenericContainer, getContainerRuntimeClient, ImageName } from 'testcontainers';

/** Can it be had on this machine? If not, the suites that need it are skipped, with the reason in their name. */
export type Availability = { available: boolean; reason: string };

/**
 * Is there a container engine, and does it have the images, or can it pull them?
 * @throws when not, and REQUIRE_CONTAINERS=1 says it must be so
 */
export async function containersAvailable(...images: string[]): Promise<Availability> {
  let missing = 'container engine';
  try {
    const { info, image } = await getContainerRuntimeClient();
    for (const name of images) {
      missing = `image ${name}`;
      const imageName = ImageName.fromString(name);
      if (!(await image.exists(imageName))) await image.pull(imageName);
    }
    return { available: true, reason: `engine ${info.containerRuntime.host}` };
  } catch (cause) {
    if (process.env['REQUIRE_CONTAINERS'] === '1')
      throw new Error(`REQUIRE_CONTAINERS=1, and no ${missing}`, { cause });
    return { available: false, reason: `skipped: no ${missing}` };
  }
}

/** A container whose published ports are bound to 127.0.0.1, not to every address of the machine. */
export class LoopbackContainer extends GenericContainer {
  protected override async beforeContainerCreated(): Promise<void> {
    const bindings: Record<string, { HostPort?: string }[]> = this.hostConfig.PortBindings ?? {};
    for (const binding of Object.values(bindings).flat()) Object.assign(binding, { HostIp: '127.0.0.1' });
  }
}
