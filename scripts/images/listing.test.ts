import { describe, expect, it } from 'vitest';
import { differences, type Entry, faults, MAX_BYTES_ON_TOP, parseListing } from './listing.ts';

const NODE: Entry = {
  path: '/usr/local/bin/node',
  mode: '100755',
  owner: '0:0',
  size: 9,
  sha256: 'n',
  elf: true,
};
const APP: Entry = { path: '/app', mode: '40555', owner: '0:0' };
const MAIN: Entry = { path: '/app/producer/src/main.js', mode: '100444', owner: '0:0', size: 5, sha256: 'm' };
const LINK: Entry = {
  path: '/app/node_modules/@orders/shared',
  mode: '120777',
  owner: '0:0',
  target: '../../shared',
};

const listing = (...entries: Entry[]) =>
  parseListing(entries.map((entry) => JSON.stringify(entry)).join('\n'));
const base = listing(NODE);
const faultsWith = (...entries: Entry[]) =>
  faults(base, listing(NODE, APP, MAIN, LINK, ...entries), ['vitest']);

describe('faults', () => {
  it('faults, of an image as it should be, are none', () => {
    expect(faultsWith()).toEqual([]);
  });

  it('faults, of an image with the tests that come with a package, are none', () => {
    expect(faultsWith(file({ path: '/app/node_modules/pg/index.test.js' }))).toEqual([]);
  });

  const file = (changed: Partial<Entry>): Entry => ({ ...MAIN, path: '/app/x', ...changed });
  it.each<[string, Entry]>([
    ['a file outside of /app', file({ path: '/root/.cache' })],
    ['a folder that only begins like /app', file({ path: '/application' })],
    ['an owner that is not root', file({ owner: '1000:1000' })],
    ['a file that its owner may write', file({ mode: '100644' })],
    ['a setuid file', file({ mode: '104555' })],
    ['a file that is closed to some', file({ mode: '100440' })],
    ['machine code', file({ elf: true })],
    ['a test', file({ path: '/app/shared/src/order.test.js' })],
    ['a contract of tests', file({ path: '/app/shared/src/store.contract.js' })],
    ['TypeScript', file({ path: '/app/shared/src/order/order.ts' })],
    ['types of a package', file({ path: '/app/node_modules/pg/index.d.ts' })],
    ['a development tool', file({ path: '/app/node_modules/vitest/index.js' })],
    ['a development tool of a workspace', file({ path: '/app/shared/node_modules/vitest/index.js' })],
    ['settings of a developer', file({ path: '/app/.env' })],
    ['too much', file({ size: MAX_BYTES_ON_TOP })],
    ['a changed file of the base', { ...NODE, sha256: 'other' }],
  ])('faults, of an image with %s, are one', (_, entry) => {
    expect(faultsWith(entry)).toHaveLength(1);
  });

  it('faults, of an image that lacks a file of its base, are one', () => {
    expect(faults(base, listing(APP, MAIN), [])).toEqual(['/usr/local/bin/node: not as in the base']);
  });
});

describe('differences', () => {
  it('differences, of the same files, are none', () => {
    expect(differences(listing(APP, MAIN), listing(APP, MAIN))).toEqual([]);
  });

  it.each<[string, Entry[]]>([
    ['other content', [APP, { ...MAIN, sha256: 'other' }]],
    ['another mode', [APP, { ...MAIN, mode: '100555' }]],
    ['another time', [APP, { ...MAIN, mtimeMs: 1 }]],
    ['a missing file', [APP]],
    ['a file more', [APP, MAIN, LINK]],
  ])('differences, with %s, are one', (_, second) => {
    expect(differences(listing(APP, MAIN), listing(...second))).toHaveLength(1);
  });
});
