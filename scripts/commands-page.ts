import { type Command, descriptions, exitStatuses, synopsis } from './command.ts';

/** `docs/commands.md`: every command, its options, its exit statuses and what it may change. */
export function commandsPage(commands: readonly Command[]): string {
  const all = commands.map(
    (command) =>
      `| [\`${command.name}\`](#${anchorOf(command)}) | ${cell(command.changes)} | ${statuses(command)} |`,
  );
  return `# Commands

Generated from the commands' own definitions by \`npm run docs\`; \`npm run check\` fails if this page is outdated.

Every command prints its usage with \`--help\`. It rejects anything it does not understand (an unknown option, an extra argument,
an option given twice, an empty value such as that of an unset variable) with exit status 2 and the usage on standard error,
before it does anything. The result goes to standard output, everything else to standard error.

| command | changes | exit status |
| --- | --- | --- |
${all.join('\n')}
${commands.map(section).join('')}`;
}

const cell = (text: string) => text.replaceAll('|', '\\|');
const statuses = (command: Command) =>
  exitStatuses(command)
    .map(([status, meaning]) => `${status}: ${cell(meaning)}`)
    .join('<br>');

/** As GitHub names the heading. */
const anchorOf = ({ name }: Command) =>
  name
    .toLowerCase()
    .replaceAll(/[^a-z0-9 -]/g, '')
    .replaceAll(' ', '-');

function section(command: Command): string {
  const rows = descriptions(command).map(({ term, meaning }) => `| \`${cell(term)}\` | ${cell(meaning)} |`);
  return `
## ${command.name}

${command.summary}

    ${synopsis(command)}

| | |
| --- | --- |
${rows.join('\n')}

Changes: ${command.changes}${command.needs ? `\\\nNeeds: ${command.needs}` : ''}
`;
}
