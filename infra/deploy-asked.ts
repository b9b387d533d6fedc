import { isConfirmed } from '../scripts/confirm.ts';
import { describeChange } from './changes.ts';
import { type Deployment, notAllowed } from './deployment.ts';

/**
 * Shows what would change and deploys it, unless something destructive is in it that nobody has named.
 * @param allowed names of what may be replaced or removed
 * @returns the exit status
 */
export async function deployAsked(deployment: Deployment, allowed: readonly string[]): Promise<number> {
  const problems = await deployment.stuck();
  for (const problem of problems) console.error(problem);
  if (problems.length > 0) return 1;

  const changes = await deployment.changes();
  for (const change of changes) console.log(describeChange(change));
  for (const { name, effect } of notAllowed(changes, allowed)) {
    const warning = `${name}: this would ${effect} it, with what is in it.`;
    if (!(await isConfirmed(name, { given: undefined, warning }))) {
      console.error(`nothing was deployed: ${warning} --replace=${name} where nobody can be asked`);
      return 1;
    }
  }
  if (changes.length === 0) console.log('the templates are as deployed');
  // Also then: a stack that failed half-way has the template, and not all of its resources.
  await deployment.deploy();
  return 0;
}
