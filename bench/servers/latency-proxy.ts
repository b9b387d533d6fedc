import { once } from 'node:events';
import net from 'node:net';
import { ready } from '../probe.ts';

/** Passes TCP on, answers so many milliseconds later. Arguments: URL behind it, milliseconds. */
const { hostname, port } = new URL(String(process.argv[2]));
const delayMs = Number(process.argv[3]);

const server = net.createServer({ noDelay: true }, (client) => {
  const behind = net.connect({ host: hostname, port: Number(port), noDelay: true });
  client.pipe(behind);
  behind.on('data', (chunk) => setTimeout(() => client.write(chunk), delayMs));
  for (const socket of [client, behind]) {
    socket.on('error', () => {});
    socket.on('close', () => {
      client.destroy();
      behind.destroy();
    });
  }
});
server.listen(0, '127.0.0.1');
await once(server, 'listening');
ready({ url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}` });
