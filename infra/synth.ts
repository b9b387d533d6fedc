import path from 'node:path';
import { createApp } from './app.ts';
import { ENVIRONMENTS, type EnvironmentName } from './environments.ts';
import { readSettings } from './settings.ts';

/** Writes the templates of the environments that are named, all where none is, to infra/cdk.out. Asks AWS nothing. */
function main(words: string[]): number {
  const known = Object.keys(ENVIRONMENTS) as EnvironmentName[];
  const unknown = words.filter((word) => !known.includes(word as EnvironmentName));
  if (unknown.length > 0) {
    console.error(
      `not an environment: ${unknown.join(', ')}; usage: npm run infra:synth -- [${known.join('|')}]...`,
    );
    return 2;
  }
  const { settings, missing } = readSettings(process.env);
  for (const name of words.length > 0 ? (words as EnvironmentName[]) : known) {
    const outdir = path.join(import.meta.dirname, 'cdk.out', name);
    const { app } = createApp(name, settings, { outdir });
    app.synth();
    console.log(`${name}: ${outdir}`);
  }
  if (missing.length > 0)
    console.log(
      `not set, so these templates hold placeholders and are not for deployment: ${missing.join(', ')}`,
    );
  return 0;
}

try {
  process.exitCode = main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
