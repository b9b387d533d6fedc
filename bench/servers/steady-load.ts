import { randomUUID } from 'node:crypto';
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { orderOf } from '../orders.ts';
import { ready } from '../probe.ts';

/**
 * Posts orders at a steady rate whatever the answers do (open loop), and then tells when each was sent and answered.
 * Arguments: URL of order-producer, orders a second, seconds.
 */
const url = `${process.argv[2]}/orders`;
const perSecond = Number(process.argv[3]);
const total = perSecond * Number(process.argv[4]);
const agent = new http.Agent({ keepAlive: true, maxSockets: 200 });
const accepted: [orderId: string, sentAt: number, answeredAt: number][] = [];
let refused = 0;

function post(): Promise<void> {
  const orderId = randomUUID();
  const body = JSON.stringify(orderOf(orderId));
  const headers = { 'content-type': 'application/json', 'content-length': body.length };
  const sentAt = Date.now();
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: 'POST', agent, headers }, (response) => {
      response.resume();
      response.on('end', () => {
        if (response.statusCode === 202) accepted.push([orderId, sentAt, Date.now()]);
        else refused++;
        resolve();
      });
    });
    request.on('error', reject);
    request.end(body);
  });
}

const startedAt = performance.now();
const posts: Promise<void>[] = [];
while (posts.length < total) {
  const due = Math.min(total, Math.ceil(((performance.now() - startedAt) / 1_000) * perSecond));
  while (posts.length < due) posts.push(post());
  await sleep(2);
}
await Promise.all(posts);
ready({ accepted, refused });
