import { globSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { forbiddenImports } from './layers.ts';

/** Fails when a room of the product imports what its entry in layers.ts does not list. Tests may import anything. */
const root = path.join(import.meta.dirname, '..');
const files = globSync('{shared,producer,consumer}/src/**/*.ts', {
  cwd: root,
  exclude: ['**/*.{test,contract}.ts'],
});
const problems = files.flatMap((file) => forbiddenImports(file, readFileSync(path.join(root, file), 'utf8')));
for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 || files.length === 0 ? 1 : 0;
