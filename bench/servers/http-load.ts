import net from 'node:net';
import { orderOf } from '../orders.ts';
import { count, ready } from '../probe.ts';

/**
 * Posts orders over so many connections, on each one after the other, and counts the answers of 202. Bare sockets and one
 * constant request: a load generator that burns the processor measures itself (autocannon takes twice as much).
 * Arguments: URL of the server, connections, headers besides as JSON.
 */
const { hostname, port } = new URL(String(process.argv[2]));
const connections = Number(process.argv[3]);
const headers = Object.entries<string>(JSON.parse(process.argv[4] ?? '{}'));

const { orderId: _, ...order } = orderOf('');
const body = JSON.stringify(order);
const request = Buffer.from(
  `POST /orders HTTP/1.1\r\nhost: ${hostname}\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n${headers.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n${body}`,
);
const ACCEPTED = Buffer.from('HTTP/1.1 202');
const CLOSE = Buffer.from('\r\nconnection: close');

for (let index = 0; index < connections; index++) open();
ready();

/** Another one takes its place when the server gives it up: ours does with each that is 5 s old. */
function open(): void {
  const socket = net.connect({ host: hostname, port: Number(port), noDelay: true });
  socket.on('error', (error) => {
    throw error;
  });
  socket.on('connect', () => socket.write(request));
  socket.on('end', open);
  // An answer is smaller than a segment, and so comes as a whole.
  socket.on('data', (answer) => {
    count(answer.subarray(0, ACCEPTED.length).equals(ACCEPTED) ? 'handled' : 'refused');
    if (!answer.includes(CLOSE)) socket.write(request);
  });
}
