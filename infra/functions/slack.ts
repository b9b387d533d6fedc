import { setTimeout as sleep } from 'node:timers/promises';

// Deployed as one file without its types: it may import only node: and the AWS SDK that Lambda brings along.

/** A message as one block of Slack: a title, and fields with their names. */
export type SlackMessage = { title: string; fields: Record<string, string> };

/** Neither SNS nor a repetition can make anything of it: it goes to the dead-letter queue, for a person. */
export class MalformedEventError extends Error {
  readonly code = 'MALFORMED_EVENT';
}

/** Slack did not take the message. Never holds the webhook's URL, which is a secret. */
export class NotPostedError extends Error {
  readonly code = 'NOT_POSTED';
}

type Options = {
  /** The URL of the webhook. Asked again with `fresh` where Slack does not know it any more. */
  readWebhook: (options: { fresh: boolean }) => Promise<string>;
  /** For one attempt. */
  timeoutMs?: number;
  attempts?: number;
  wait?: (ms: number) => Promise<unknown>;
};

/** Longest wait that Slack may ask for: the function itself ends after 30 s. SNS's next try comes a minute later. */
const LONGEST_WAIT_MS = 5_000;

/**
 * Posts each message of an SNS event to Slack. Rejects if one was not taken: Lambda then calls again, twice, and puts the
 * event into the dead-letter queue at last. A message may arrive twice, but none is lost without a trace.
 * https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html
 */
export function createSlackHandler({
  readWebhook,
  timeoutMs = 4_000,
  attempts = 3,
  wait = sleep,
}: Options): (event: unknown) => Promise<void> {
  /** The status, or 0 where none came. */
  const post = async (url: string, body: string) => {
    try {
      const response = await fetch(url, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body,
        redirect: 'error',
        signal: AbortSignal.timeout(timeoutMs),
      });
      await response.body?.cancel();
      return { status: response.status, retryAfter: Number(response.headers.get('retry-after')) };
    } catch {
      // The error may quote the URL.
      return { status: 0, retryAfter: 0 };
    }
  };

  const deliver = async (message: SlackMessage) => {
    const body = JSON.stringify(slackBody(message));
    let url = await readWebhook({ fresh: false });
    let last = 'not tried';
    for (let attempt = 1; attempt <= attempts; attempt++) {
      const { status, retryAfter } = await post(url, body);
      if (status >= 200 && status < 300) return;
      last = status === 0 ? 'no answer' : `status ${status}`;
      if (attempt === attempts) break;
      // https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks#handling_errors
      if (status === 403 || status === 404 || status === 410) url = await readWebhook({ fresh: true });
      else if (status === 0 || status === 429 || status >= 500)
        await wait(Math.min(LONGEST_WAIT_MS, retryAfter > 0 ? retryAfter * 1_000 : 500 * 2 ** attempt));
      else break;
    }
    throw new NotPostedError(`Slack did not take "${message.title}": ${last}`);
  };

  return async (event) => {
    for (const record of recordsOf(event)) await deliver(slackMessage(record));
  };
}

type Notification = { Message: string; Subject?: string | null };
type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
const text = (value: unknown): string =>
  typeof value === 'string' ? value : value === undefined || value === null ? '' : JSON.stringify(value);

/** @throws {MalformedEventError} it is no event of SNS */
function recordsOf(event: unknown): Notification[] {
  const records = isObject(event) ? event['Records'] : undefined;
  if (!Array.isArray(records) || records.length === 0)
    throw new MalformedEventError('an event without records: only SNS may call this function');
  return records.map((record) => {
    const notification = isObject(record) ? record['Sns'] : undefined;
    if (!isObject(notification) || typeof notification['Message'] !== 'string')
      throw new MalformedEventError('a record that is not of SNS');
    return notification as Notification;
  });
}

/** What a notification says: an alarm of CloudWatch, an event of EventBridge, or text of anybody. */
export function slackMessage({ Message, Subject }: Notification): SlackMessage {
  const content = parseObject(Message);
  if (content && typeof content['AlarmName'] === 'string' && typeof content['NewStateValue'] === 'string')
    return alarmMessage(content);
  if (content && typeof content['detail-type'] === 'string' && isObject(content['detail']))
    return eventMessage(content, content['detail']);
  return { title: Subject || 'Message', fields: { message: Message } };
}

function parseObject(message: string): Json | undefined {
  try {
    const content: unknown = JSON.parse(message);
    return isObject(content) ? content : undefined;
  } catch {
    return undefined;
  }
}

const SIGNS: Readonly<Record<string, string>> = { ALARM: ':red_circle:', OK: ':large_green_circle:' };

/** https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/Notify_Users_Alarm_Changes.html */
function alarmMessage(alarm: Json): SlackMessage {
  const state = text(alarm['NewStateValue']);
  const name = text(alarm['AlarmName']);
  const reason = text(alarm['NewStateReason']);
  const description = text(alarm['AlarmDescription']);
  const trigger = isObject(alarm['Trigger']) ? alarm['Trigger'] : {};
  // Not in a field of its own: "1 out of the last 2 datapoints [12.0 (27/11/26 14:00:00)] was greater than …".
  const [, value = ''] = /\[(-?[\d.]+(?:E[-+]?\d+)?) \(/.exec(reason) ?? [];
  const [, runbook = ''] = /Runbook: (https?:\/\/\S+)/.exec(description) ?? [];
  const values = { value, threshold: text(trigger['Threshold']), runbook };
  return {
    title: `${SIGNS[state] ?? ':white_circle:'} ${state}: ${name}`,
    fields: {
      alarm: name,
      status: state,
      reason,
      ...Object.fromEntries(Object.entries(values).filter(([, each]) => each !== '')),
      ...(description ? { description: description.replace(/\s*Runbook: \S+/, '') } : {}),
    },
  };
}

/** https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html */
function eventMessage(event: Json, detail: Json): SlackMessage {
  return {
    title: `:information_source: ${text(event['detail-type'])}`,
    fields: {
      source: text(event['source']),
      time: text(event['time']),
      ...Object.fromEntries(Object.entries(detail).map(([name, value]) => [name, text(value)])),
    },
  };
}

/** Slack refuses longer ones: https://docs.slack.dev/reference/block-kit/blocks/section-block */
const MAX_FIELDS = 10;
const MAX_FIELD = 2_000;
const MAX_TITLE = 150;

/** Mentions and links are only what Slack makes of `<` and `>`: https://docs.slack.dev/messaging/formatting-message-text#escaping */
const escaped = (value: string) =>
  value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
/** Not within an escape, nor within a surrogate pair. */
function cut(value: string, max: number): string {
  let short = '';
  for (const character of value) {
    const next = short + escaped(character);
    if (next.length > max - 1) return `${short}…`;
    short = next;
  }
  return short;
}

function slackBody({ title, fields }: SlackMessage) {
  const shown = Object.entries(fields).slice(0, MAX_FIELDS);
  return {
    text: cut(title, MAX_TITLE),
    blocks: [
      { type: 'section', text: { type: 'mrkdwn', text: `*${cut(title, MAX_TITLE)}*` } },
      {
        type: 'section',
        fields: shown.map(([name, value]) => {
          const head = `*${cut(name, 100)}*\n`;
          return { type: 'mrkdwn', text: head + cut(value || '–', MAX_FIELD - head.length) };
        }),
      },
    ],
  };
}

/** How long a webhook is used before it is read again. */
const CACHE_MS = 5 * 60_000;
let cached: { url: string; untilMs: number } | undefined;

/** From Secrets Manager, by the SDK that Lambda brings along. */
async function readWebhook({ fresh }: { fresh: boolean }): Promise<string> {
  if (!fresh && cached && cached.untilMs > Date.now()) return cached.url;
  const { GetSecretValueCommand, SecretsManagerClient } = await import('@aws-sdk/client-secrets-manager');
  const { SecretString } = await new SecretsManagerClient().send(
    new GetSecretValueCommand({ SecretId: process.env['SLACK_WEBHOOK_SECRET_ARN'] }),
  );
  const url = SecretString?.trim() ?? '';
  if (!url.startsWith('https://'))
    throw new NotPostedError('the secret holds no URL that begins with https://');
  cached = { url, untilMs: Date.now() + CACHE_MS };
  return url;
}

/** What Lambda calls. */
export const handler = createSlackHandler({ readWebhook });
