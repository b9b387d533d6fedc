import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Fails when a page links to a file that is not there, or when the translated README has fallen behind. */
const root = path.join(import.meta.dirname, '..');
const problems: string[] = [];

for (const page of globSync(['*.md', 'docs/**/*.md', 'dev/**/*.md'], { cwd: root })) {
  const text = readFileSync(path.join(root, page), 'utf8');
  for (const [, target = ''] of text.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const file = path.resolve(root, path.dirname(page), target);
    if (!existsSync(file)) problems.push(`${page} links to ${target}, which is not there`);
  }
}

/** What must be the same in every language: how many headings and table rows, and the commands to type. */
function structure(page: string) {
  const lines = readFileSync(path.join(root, page), 'utf8').split('\n');
  const commands = lines.filter((line) => /^(npm|scripts\/|curl|docker)/.test(line));
  return {
    headings: lines.filter((line) => line.startsWith('#') && !line.startsWith('# ')).length,
    'table rows': lines.filter((line) => line.startsWith('|')).length,
    commands: commands.map((line) => line.replace(/\s+#.*$/, '')).join('\n'),
  };
}
const [original, translation] = [structure('README.md'), structure('README.ko.md')];
for (const part of ['headings', 'table rows', 'commands'] as const) {
  if (original[part] !== translation[part]) problems.push(`README.ko.md is behind README.md: ${part} differ`);
}

for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
