import { readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { FAULTS } from './faults.ts';
import { INVARIANTS } from './invariants.ts';
import { MUTATIONS } from './mutants.ts';

const ROOT = path.join(import.meta.dirname, '..', '..');

test.each(MUTATIONS)('mutation "$name", fits the code as it is now', ({ edits, fault }) => {
  for (const { file, find } of edits)
    expect(readFileSync(path.join(ROOT, file), 'utf8').split(find), `${file}: ${find}`).toHaveLength(2);
  expect(FAULTS.map(({ name }) => name)).toContain(fault);
});

test('mutations, taken together, break every promise that is checked', () => {
  expect(new Set(MUTATIONS.map(({ expected }) => expected))).toEqual(new Set(Object.keys(INVARIANTS)));
});
