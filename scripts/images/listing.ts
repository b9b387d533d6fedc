/** One file, folder or link of an image, as `list-files.mjs` finds it. */
export type Entry = {
  path: string;
  /** Type and permissions, octal. */
  mode: string;
  owner: string;
  /** Of files. */
  size?: number;
  sha256?: string;
  mtimeMs?: number;
  elf?: boolean;
  /** Of links. */
  target?: string;
};

export type Listing = Map<string, Entry>;

export const MAX_BYTES_ON_TOP = 60_000_000;
const ROOT_OWNER = '0:0';
const ANY_WRITE_OR_SPECIAL_BIT = 0o7222;
const PERMISSIONS = 0o7777;

export function parseListing(lines: string): Listing {
  const entries = lines
    .trim()
    .split('\n')
    .map((line): Entry => JSON.parse(line));
  return new Map(entries.map((entry) => [entry.path, entry]));
}

/** What the second has otherwise than the first: content, mode, owner, time, presence. */
export function differences(first: Listing, second: Listing): string[] {
  return [...new Set([...first.keys(), ...second.keys()])]
    .filter((path) => JSON.stringify(first.get(path)) !== JSON.stringify(second.get(path)))
    .map((path) => `${path}: ${JSON.stringify(first.get(path))} and ${JSON.stringify(second.get(path))}`);
}

/** What the image adds to its base. */
export function onTopOf(base: Listing, image: Listing): Entry[] {
  return [...image.values()].filter((entry) => !base.has(entry.path));
}

export const bytesOf = (entries: Entry[]): number => entries.reduce((sum, { size = 0 }) => sum + size, 0);

/** What an image must not contain, or change of its base. `developmentTools` are names of packages. */
export function faults(base: Listing, image: Listing, developmentTools: string[]): string[] {
  const added = onTopOf(base, image);
  const found = added.flatMap((entry) =>
    faultsOf(entry, developmentTools).map((fault) => `${entry.path}: ${fault}`),
  );
  for (const [path, entry] of base) {
    if (JSON.stringify(entry) !== JSON.stringify(image.get(path))) found.push(`${path}: not as in the base`);
  }
  const bytes = bytesOf(added);
  if (bytes > MAX_BYTES_ON_TOP) found.push(`${bytes} bytes on top of the base`);
  return found;
}

function faultsOf({ path, mode, owner, target, elf }: Entry, developmentTools: string[]): string[] {
  const permissions = Number.parseInt(mode, 8) & PERMISSIONS;
  const [, inModules] = /\/node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path) ?? [];
  const rules: [boolean, string][] = [
    [path !== '/app' && !path.startsWith('/app/'), 'outside of /app'],
    [owner !== ROOT_OWNER, `belongs to ${owner}`],
    [target === undefined && (permissions & ANY_WRITE_OR_SPECIAL_BIT) !== 0, `mode ${mode}`],
    [target === undefined && (permissions & 0o444) !== 0o444, `mode ${mode}, not readable to all`],
    [elf === true, 'machine code: the image is put together once for all processors'],
    [inModules === undefined && /\.(test|contract)\.[jt]s$/.test(path), 'a test of ours'],
    [/\.[cm]?ts$/.test(path), 'TypeScript, whose types would be stripped at each start'],
    [inModules !== undefined && developmentTools.includes(inModules), 'a development tool'],
    [/\/(\.npm|\.npmrc|\.env[^/]*|\.git|_cacache)$/.test(path), 'local state'],
  ];
  return rules.filter(([broken]) => broken).map(([, fault]) => fault);
}
