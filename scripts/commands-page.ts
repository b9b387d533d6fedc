import { type Command, descriptions, exitStatuses, synopsis } from './command.ts';

/** `docs/commands.md`: every command, its options, its exit statuses and what it may change. */
export function commandsPage(commands: readonly Command[]): string {
  const [contributors = [], operators = []] = [true, undefined].map((are) =>
    commands.filter(({ forContributors }) => forContributors === are),
  );
  return `# Commands

Generated from the commands' own definitions by \`npm run docs\`; \`npm run check\` fails if this page is outdated.

Every command prints its usage with \`--help\`. It rejects anything it does not understand (an unknown option, an extra argument,
an option given twice, an empty value such as that of an unset variable) with exit status 2 and the usage on standard error,
before it does anything. It also rejects an option that npm keeps for itself, because no \`--\` comes before it. The result goes
to standard output, everything else to standard error. A command fails if its result cannot be written.

${table(operators)}${operators.map((command) => section(command)).join('')}
## For contributors

Tools for people who change this project. They do not read \`.env\`. Not listed: \`npm test\`, the other \`npm run test:…\` and
\`npm run k8s:check\` pass what follows \`--\` to [vitest](https://vitest.dev/guide/cli), and \`npm run cluster:load --\` passes it
to kind. \`scripts/compose-smoke.sh\` is plain shell; \`--help\` prints its usage.

${table(contributors)}${contributors.map((command) => section(command, '###')).join('')}`;
}

function table(commands: readonly Command[]): string {
  const rows = commands.map(
    (command) =>
      `| [\`${command.name}\`](#${anchorOf(command)}) | ${cell(command.changes)} | ${statuses(command)} |\n`,
  );
  return `| command | changes | exit status |\n| --- | --- | --- |\n${rows.join('')}`;
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

function section(command: Command, level = '##'): string {
  const rows = descriptions(command).map(({ term, meaning }) => `| \`${cell(term)}\` | ${cell(meaning)} |`);
  return `
${level} ${command.name}

${command.summary}

    ${synopsis(command)}

| | |
| --- | --- |
${rows.join('\n')}

Changes: ${command.changes}${command.needs ? `\\\nNeeds: ${command.needs}` : ''}
`;
}
