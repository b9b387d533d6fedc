import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { expect, it } from 'vitest';
import { EDITS } from './releases.ts';

it.each(Object.entries(EDITS))('edit %s changes what the image has, and leaves it a program', (_, edit) => {
  const [, file, command] = edit;
  // What scripts/images/strip-types.mjs makes of it, but for the imports.
  const before = stripTypeScriptTypes(readFileSync(file.replace(/js$/, 'ts'), 'utf8'));
  const after = execFileSync('sed', [command], { input: before, encoding: 'utf8' });
  expect(after).not.toBe(before);
  expect(() =>
    execFileSync(process.execPath, ['--check', '--input-type=module'], { input: after, stdio: 'pipe' }),
  ).not.toThrow();
});
