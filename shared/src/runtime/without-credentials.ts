/** The text between `//` and the `@` before a host, even if the password contains an unencoded `@`. */
const USER_INFO = /([a-z][a-z0-9+.-]*:\/\/)[^\s/?#"']*@/gi;

/** Removes user and password from the URLs in a text, for printing and logging. */
export function withoutCredentials(text: string): string {
  return text.replace(USER_INFO, '$1[redacted]@');
}
