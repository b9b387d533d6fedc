import { createInterface } from 'node:readline/promises';

/**
 * Whether somebody means it, by a word that nobody types by mistake. Where nobody can be asked it must be given.
 * @param warning what is about to happen
 */
export async function isConfirmed(
  word: string,
  { given, warning }: { given: string | undefined; warning: string },
): Promise<boolean> {
  if (given !== undefined) return given === word;
  if (!process.stdin.isTTY) return false;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${warning}\nType "${word}" to go on: `);
  terminal.close();
  return answer.trim() === word;
}
