// Ends a command that cannot run yet with the line that says what to do: node --import ./scripts/ready.mjs PROGRAM
import { isInstalled, nodeProblem } from './installation.mjs';

const problem = isInstalled()
  ? nodeProblem(process.version)
  : 'dependencies are missing or not those of package-lock.json: run npm ci first';
if (problem) {
  console.error(problem);
  process.exit(1);
}
