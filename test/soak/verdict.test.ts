import { expect, test } from 'vitest';
import { growthsOf, type Sample, windowsOf } from './verdict.ts';

const MINUTE_MS = 60_000;
const samples = (of: (minute: number) => Partial<Sample>): Sample[] =>
  Array.from({ length: 30 }, (_, minute) => ({
    atMs: minute * MINUTE_MS,
    residentBytes: 100e6,
    heapUsedBytes: 40e6,
    handles: 60,
    openFiles: 80,
    ...of(minute),
  }));
const growths = (of: (minute: number) => Partial<Sample>) =>
  growthsOf('consumer', windowsOf(samples(of), 30 * MINUTE_MS));

test('soak, with memory that warms up for ten minutes and then stays, has nothing that grew', () => {
  expect(growths((minute) => ({ residentBytes: 100e6 + Math.min(minute, 10) * 20e6 }))).toEqual([]);
});

test('soak, with a peak within each window, judges by the medians', () => {
  expect(growths((minute) => (minute === 25 ? { residentBytes: 900e6, openFiles: 800 } : {}))).toEqual([]);
});

test('soak, with more connections of clients in the last window, which come and go, has nothing that grew', () => {
  const breathing = (minute: number) => 60 + (minute % 5) * (minute > 20 ? 8 : 2);
  expect(growths((minute) => ({ handles: breathing(minute), openFiles: breathing(minute) }))).toEqual([]);
});

test('soak, with connections of the load that were counted on one side only, has nothing that grew', () => {
  const miscounted = (minute: number) => (minute === 15 ? 51 : 60);
  expect(growths((minute) => ({ handles: miscounted(minute), openFiles: miscounted(minute) }))).toEqual([]);
});

test.each<[string, (minute: number) => Partial<Sample>]>([
  ['residentBytes', (minute) => ({ residentBytes: 100e6 + minute * 1e6 })],
  ['handles', (minute) => ({ handles: 60 + minute })],
  ['openFiles', (minute) => ({ openFiles: 80 + minute })],
])('soak, with growing %s, says so', (figure, of) => {
  expect(growths(of)).toEqual([expect.stringContaining(`consumer: ${figure} grew from`)]);
});

test('soak, too short for a sample a window, is no proof', () => {
  expect(() => windowsOf(samples(() => ({})).slice(0, 15), 30 * MINUTE_MS)).toThrow('too short');
});
