/** What stands between `//` and the `@` before a host: also where a password is not encoded and has an `@` of its own. */
const USER_INFO = /([a-z][a-z0-9+.-]*:\/\/)[^\s/?#"']*@/gi;

/** The text, without the user and password of the URLs in it: for what is printed or logged. */
export function withoutCredentials(text: string): string {
  return text.replace(USER_INFO, '$1[redacted]@');
}
