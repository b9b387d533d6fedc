import { existsSync, globSync, readFileSync } from 'node:fs';
import path from 'node:path';

/** Fails when a page links to a file or a heading that is not there, or when a translation has fallen behind. */
const root = path.join(import.meta.dirname, '..');
const problems: string[] = [];

for (const page of globSync(['*.md', '{docs,dev,k8s}/**/*.md'], { cwd: root })) {
  const text = readFileSync(path.join(root, page), 'utf8');
  for (const [, target = '', anchor] of text.matchAll(/\]\(([^)#\s]*)(?:#([^)\s]*))?\)/g)) {
    if (/^[a-z]+:/.test(target)) continue;
    const file = target ? path.resolve(root, path.dirname(page), target) : path.join(root, page);
    if (!existsSync(file)) problems.push(`${page} links to ${target}, which is not there`);
    else if (anchor && file.endsWith('.md') && !anchorsOf(file).has(anchor))
      problems.push(`${page} links to #${anchor}, a heading that ${path.relative(root, file)} does not have`);
  }
}

/** How GitHub names the headings of a page: a second one of the same name gets `-1`, and so on. */
function anchorsOf(file: string): Set<string> {
  const anchors = new Set<string>();
  const text = readFileSync(file, 'utf8').replaceAll(/^( *)```.*?^\1```/gms, '');
  for (const [, heading = ''] of text.matchAll(/^#{1,6} +(.+?) *$/gm)) {
    const shown = heading.replaceAll(/\[([^\]]*)\]\([^)]*\)/g, '$1');
    const name = shown
      .toLowerCase()
      .replaceAll(/[^\p{Letter}\p{Mark}\p{Number}\p{Connector_Punctuation} -]/gu, '')
      .replaceAll(' ', '-');
    let anchor = name;
    for (let more = 1; anchors.has(anchor); more++) anchor = `${name}-${more}`;
    anchors.add(anchor);
  }
  return anchors;
}

/** What must be the same in every language: the shape of the page, the commands to type, and what is set as code. */
function structure(page: string) {
  const text = readFileSync(path.join(root, page), 'utf8');
  const lines = text.split('\n');
  const code = [...text.matchAll(/^( *)```.*?^\1```|^ {6}\S.*$/gms)].flatMap(([block]) => block.split('\n'));
  const commands = code.filter((line) => /^ *(npm|scripts\/\S+|curl|docker\S*|kubectl|aws) /.test(line));
  return {
    headings: lines.filter((line) => line.startsWith('#') && !line.startsWith('# ')).length,
    'table rows': lines.filter((line) => line.trimStart().startsWith('|')).length,
    'list items': lines.filter((line) => /^ *(-|\d+\.) /.test(line)).length,
    commands: commands.map((line) => line.replace(/\s+#.*$/, '')).join('\n'),
    'words in code style': [...new Set(text.match(/(?<!`)`[^`\n]+`(?!`)/g))].sort().join('\n'),
  };
}
const runbooks = globSync('docs/runbooks/*.md', { cwd: root }).filter((page) => !page.endsWith('.ko.md'));
for (const original of ['README.md', 'docs/deploy.md', 'docs/recovery.md', ...runbooks]) {
  const translation = original.replace('.md', '.ko.md');
  const [wanted, found] = [structure(original), structure(translation)];
  for (const part of Object.keys(wanted) as (keyof typeof wanted)[]) {
    if (wanted[part] !== found[part]) problems.push(`${translation} is behind ${original}: ${part} differ`);
  }
}

for (const problem of problems) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
