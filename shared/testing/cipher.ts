import { hash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { z } from 'zod';
import {
  type CipherOptions,
  type MessageCipher,
  openMessageCipher,
} from '../src/encryption/message-cipher.ts';
import { MAX_ORDER_BYTES } from '../src/order/message.ts';
import { commonFields, loadConfig, withRules } from '../src/runtime/config.ts';
import { captureLog } from './log-lines.ts';

/** A line of a key file, with a key that is made of its id. */
export const keyLine = (id: string): string => `${id} ${hash('sha256', id, 'base64')}\n`;

/** A key file that is there until it is disposed of. */
export function aKeyFile(text = keyLine('test')) {
  const folder = mkdtempSync(path.join(tmpdir(), 'keys-'));
  const file = path.join(folder, 'keys');
  writeFileSync(file, text);
  return {
    file,
    /** What a service is told to encrypt with it. */
    env: { MESSAGE_ENCRYPTION: 'local' as const, MESSAGE_ENCRYPTION_KEY_FILE: file },
    write: (changed: string) => writeFileSync(file, changed),
    [Symbol.dispose]: () => rmSync(folder, { recursive: true }),
  };
}

/** What logs is in `lines`. */
export async function aCipher(
  env: Record<string, string>,
  options: Partial<CipherOptions> = {},
): Promise<MessageCipher & { lines: unknown[] }> {
  const { logger, lines } = captureLog();
  const config = loadConfig(withRules(z.object(commonFields), []), env);
  return Object.assign(await openMessageCipher({ config, logger, maxBytes: MAX_ORDER_BYTES, ...options }), {
    lines,
  });
}
