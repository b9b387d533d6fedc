const TIMEOUT_MS = 5_000;

/**
 * Tells people how a deployment ended: a POST to `webhookUrl` (Slack and Alertmanager-like receivers read `text`), or a
 * line. A receiver that does not answer changes nothing about the deployment.
 */
export async function alert(
  webhookUrl: string | undefined,
  { severity, text }: { severity: 'info' | 'warning'; text: string },
  say: (line: string) => void,
): Promise<void> {
  say(`${severity}: ${text}`);
  if (!webhookUrl) return;
  try {
    const response = await fetch(webhookUrl, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ severity, text }),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    });
    if (!response.ok) say(`the alert was not taken: ${response.status}`);
  } catch (error) {
    // Not its message, which may quote the URL: that is a secret.
    const { name, cause } = error as Error;
    const code = cause instanceof Error && 'code' in cause ? cause.code : undefined;
    say(`the alert was not sent: ${code ?? name}`);
  }
}
