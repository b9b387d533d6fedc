import fc from 'fast-check';

/** Values that break parsers, databases and queues. */
export const NASTY: readonly unknown[] = [
  null,
  true,
  -1,
  0,
  1e308,
  -0.5,
  Number.MAX_SAFE_INTEGER + 1,
  '',
  'NaN',
  'Infinity',
  '\u0000',
  'a\u001bb\u0085c',
  '\ud800',
  '\udfff\ud83d',
  '\uffff',
  'é'.normalize('NFD'),
  '💿'.repeat(200),
  'x'.repeat(70_000),
  "'; DROP TABLE orders; --",
  '../../etc/passwd',
  [],
  {},
  [[[[[[[[[[]]]]]]]]]],
  { __proto__: null, constructor: 1, toString: 2 },
  '2026-02-30T00:00:00Z',
  '2026-11-22T09:00:00',
  '00000000-0000-0000-0000-00000000000g',
];

export type Mutation =
  | { kind: 'flip'; at: number; byte: number }
  | { kind: 'truncate'; at: number }
  | { kind: 'insert'; at: number; text: string }
  | { kind: 'replace'; path: number[]; value: unknown }
  | { kind: 'remove'; path: number[] }
  | { kind: 'add'; key: string; value: unknown }
  | { kind: 'nest'; depth: number };

export const position = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });
const pathSteps = fc.array(fc.nat(20), { minLength: 1, maxLength: 4 });
export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ kind: fc.constant('flip' as const), at: position, byte: fc.integer({ min: 1, max: 127 }) }),
  fc.record({ kind: fc.constant('truncate' as const), at: position }),
  fc.record({
    kind: fc.constant('insert' as const),
    at: position,
    text: fc.string({ unit: 'binary-ascii', maxLength: 8 }),
  }),
  fc.record({ kind: fc.constant('replace' as const), path: pathSteps, value: fc.constantFrom(...NASTY) }),
  fc.record({ kind: fc.constant('remove' as const), path: pathSteps }),
  fc.record({
    kind: fc.constant('add' as const),
    key: fc.constantFrom('__proto__', 'constructor', 'x', ''),
    value: fc.constantFrom(...NASTY),
  }),
  fc.record({ kind: fc.constant('nest' as const), depth: fc.constantFrom(10, 1_000, 50_000) }),
);

/** So many are drawn at once: what is drawn is small, what is made of it need not be. */
const DRAWN_AT_ONCE = 1_000;

/** `count` values, one at a time; the same for the same seed. */
export function* drawn<T>(arbitrary: fc.Arbitrary<T>, count: number, seed: number): Generator<T> {
  for (let from = 0; from < count; from += DRAWN_AT_ONCE) {
    const numRuns = Math.min(DRAWN_AT_ONCE, count - from);
    yield* fc.sample(arbitrary, { numRuns, seed: seed + from });
  }
}

/** Texts made of what `base` answers by one to three mutations of its bytes or its structure. */
export function* mutatedTexts(
  base: (index: number) => object,
  count: number,
  seed: number,
): Generator<string> {
  let index = 0;
  for (const steps of drawn(fc.array(mutation, { minLength: 1, maxLength: 3 }), count, seed))
    yield mutated(JSON.stringify(base(index++)), steps);
}

export function mutated(text: string, steps: readonly Mutation[]): string {
  return steps.reduce(mutate, text);
}

function mutate(text: string, step: Mutation): string {
  switch (step.kind) {
    case 'flip': {
      const at = Math.floor(step.at * text.length);
      const flipped = String.fromCharCode((text.charCodeAt(at) || 32) ^ step.byte);
      return text.slice(0, at) + flipped + text.slice(at + 1);
    }
    case 'truncate':
      return text.slice(0, Math.floor(step.at * text.length));
    case 'insert': {
      const at = Math.floor(step.at * text.length);
      return text.slice(0, at) + step.text + text.slice(at);
    }
    case 'nest':
      return text.replace(
        /"data":|"items":/,
        (name) => `${name}${'['.repeat(step.depth)}${']'.repeat(step.depth)},"was":`,
      );
    default:
      return mutateStructure(text, step);
  }
}

/** On text that an earlier step left unparsable, or nested too deeply to be written again, does nothing. */
function mutateStructure(text: string, step: Mutation & { kind: 'replace' | 'remove' | 'add' }): string {
  try {
    const root = JSON.parse(text);
    if (typeof root !== 'object' || root === null) return text;
    return JSON.stringify(changed(root, step));
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof RangeError) return text;
    throw error;
  }
}

function changed(root: object, step: Mutation & { kind: 'replace' | 'remove' | 'add' }): object {
  if (step.kind === 'add') return { ...root, [step.key]: step.value };
  let parent = root as Record<string, unknown>;
  let key = '';
  for (const choice of step.path) {
    const keys = Object.keys(parent);
    if (keys.length === 0) break;
    key = keys[choice % keys.length] as string;
    const child = parent[key];
    if (choice === step.path.at(-1) || typeof child !== 'object' || child === null) break;
    parent = child as Record<string, unknown>;
  }
  if (step.kind === 'remove') delete parent[key];
  else parent[key] = step.value;
  return root;
}
