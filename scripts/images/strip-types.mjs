import { globSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';

/**
 * Turns TypeScript below the given folders into what Node makes of it at each start, line for line, and leaves `.js` in
 * its place. Imports of packages keep their names: the manifests say where they lead.
 */
const RELATIVE_IMPORT = /((?:from|import) ?\(?'\.{1,2}\/[^']+)\.ts'/g;

for (const folder of process.argv.slice(2)) {
  for (const file of globSync(`${folder}/**/src/**/*.ts`)) {
    const script = stripTypeScriptTypes(readFileSync(file, 'utf8')).replaceAll(RELATIVE_IMPORT, "$1.js'");
    if (/['"`]\.{1,2}\/[^'"`\n]*\.ts['"`]/.test(script))
      throw new Error(`${file}: an import that was not found`);
    writeFileSync(file.replace(/ts$/, 'js'), script);
    rmSync(file);
  }
  for (const manifest of globSync(`${folder}/*/app/*/package.json`)) {
    writeFileSync(manifest, readFileSync(manifest, 'utf8').replaceAll('"./src/*.ts"', '"./src/*.js"'));
  }
}
