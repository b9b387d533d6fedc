import { spawnSync } from 'node:child_process';
import { buildImage, buildSqsImage, loadImages, POSTGRES_IMAGE } from './cluster.ts';

/** What makes a release bad: a command of sed for one file, as it is in the image of one service. */
export const EDITS = {
  'rejects-everything': ['consumer', 'shared/src/order/order.js', 's/return `v1:/return `v1:x/'],
  'migration-fails': [
    'consumer',
    'consumer/src/adapters/migrations.js',
    's/const POSTGRES_MIGRATIONS *= \\[/&{version: 1000, sql: "ALTER TABLE orders ADD COLUMN note text; SELECT 1 \\/ 0"},/',
  ],
  'refuses-customers': [
    'producer',
    'producer/src/domain/place-order.js',
    's/const hash = contentHash(request);/&if (request.customerId !== "SYNTHETIC-CHECK") throw new Error("bad release");/',
  ],
} as const;

/** v1 as the repository is; the others are v1 with another name, and the bad ones with an edit of their source. */
export async function buildReleases(): Promise<void> {
  const images = [];
  for (const service of ['producer', 'consumer'] as const) {
    images.push(await buildImage(service, 'v1'));
    for (const tag of ['v2', ...Object.keys(EDITS)]) {
      const [edited, file, edit] = EDITS[tag as keyof typeof EDITS] ?? [];
      const lines = [`FROM order-${service}:v1`, `ENV RELEASE_VERSION=${tag}`];
      if (edited === service) {
        // An edit that changes nothing would make a good release of a bad one.
        lines.push(
          'USER 0',
          `RUN cp ${file} /tmp/before && sed -i '${edit}' ${file} && ! cmp -s ${file} /tmp/before`,
          'USER 1000',
        );
      }
      const name = `order-${service}:${tag}`;
      const built = spawnSync('docker', ['build', '-q', '-t', name, '-'], {
        input: lines.join('\n'),
        encoding: 'utf8',
      });
      if (built.status !== 0) throw new Error(`docker build of ${name}: ${built.stderr}`);
      images.push(name);
    }
  }
  await loadImages(...images, await buildSqsImage(), POSTGRES_IMAGE);
}
