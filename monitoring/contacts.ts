import { readFileSync } from 'node:fs';
import path from 'node:path';
import { parse } from 'yaml';
import { z } from 'zod';

const duration = z.string().regex(/^\d+[smhd]$/);
const contact = z
  .strictObject({
    name: z.string(),
    slack: z.string().startsWith('#').optional(),
    email: z.email().optional(),
  })
  .refine(({ slack, email }) => slack ?? email, 'needs slack or email');
const row = z.strictObject({
  respondWithin: duration,
  escalateAfter: duration,
  repeat: duration,
  first: z.array(z.string()).min(1),
  second: z.array(z.string()),
  escalateTo: z.array(z.string()).min(1),
});

const schema = z
  .strictObject({
    runbooksUrl: z.url(),
    grafanaUrl: z.url(),
    mail: z.strictObject({ smarthost: z.string(), from: z.email(), username: z.string() }),
    contacts: z.record(z.string(), contact),
    escalation: z.strictObject({ critical: row, high: row, medium: row, low: row }),
  })
  .superRefine(({ contacts, escalation }, issues) => {
    for (const [urgency, { first, second, escalateTo }] of Object.entries(escalation))
      for (const name of [...first, ...second, ...escalateTo])
        if (!(name in contacts))
          issues.addIssue({ code: 'custom', path: ['escalation', urgency], message: `no contact ${name}` });
  });

export type Contacts = z.infer<typeof schema>;

/** contacts.yaml, checked. */
export function readContacts(): Contacts {
  return schema.parse(parse(readFileSync(path.join(import.meta.dirname, 'contacts.yaml'), 'utf8')));
}
