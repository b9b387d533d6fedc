import net from 'node:net';
import { expect, it } from 'vitest';
import { freePorts, isPortTaken, portOwner } from './port-owner.ts';

it('freePorts, isPortTaken and portOwner tell free ports and those of a process', async () => {
  const [port, other] = (await freePorts(2)) as [number, number];
  expect(port).not.toBe(other);
  const server = net.createServer().listen(port, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  expect(await isPortTaken(port)).toBe(true);
  expect(await isPortTaken(other)).toBe(false);
  expect(portOwner(port)?.pid).toBe(process.pid);
  expect(portOwner(other)).toBeUndefined();
  server.close();
});
