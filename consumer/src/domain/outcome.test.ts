import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { REJECTION_REASONS } from './outcome.ts';

const ARCHITECTURE = path.join(import.meta.dirname, '../../../docs/architecture.md');

test('docs/architecture.md names every reason for which a message is rejected', () => {
  const text = readFileSync(ARCHITECTURE, 'utf8');
  const missing = Object.keys(REJECTION_REASONS).filter((reason) => !text.includes(`\`${reason}\``));
  expect(missing).toEqual([]);
});
