import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { SERVICE_FLAGS, SERVICE_SCRIPT } from './services.ts';

test.each(['producer', 'consumer'] as const)(
  '%s, in its image and by npm, runs with the same flags',
  (service) => {
    const script = SERVICE_SCRIPT[service];
    const { scripts } = JSON.parse(readFileSync('package.json', 'utf8'));
    expect(scripts[service]).toBe(['node --import ./scripts/ready.mjs', ...SERVICE_FLAGS, script].join(' '));
    const command = JSON.stringify(['node', ...SERVICE_FLAGS, script.replace(/ts$/, 'js')]);
    expect(readFileSync('Dockerfile', 'utf8')).toContain(`\nCMD ${command.replaceAll(',', ', ')}\n`);
  },
);
