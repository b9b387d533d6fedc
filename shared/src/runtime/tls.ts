/** Of connections that this software opens; 1.0 and 1.1 are not to be used: RFC 8996. Whatever `NODE_OPTIONS` allow. */
export const MIN_TLS_VERSION = 'TLSv1.2';

const UNKNOWN_CA = /^(?:DEPTH_ZERO_)?SELF_SIGNED_CERT|^UNABLE_TO_(?:GET_ISSUER_CERT|VERIFY_LEAF)/;

/**
 * What a person can do about an error of TLS: names the variable to look at. Undefined for other errors.
 * @param code the error's: https://nodejs.org/docs/latest-v24.x/api/tls.html#x509-certificate-error-codes
 * @param variables that name the server, and the CAs that may vouch for it
 */
export function tlsAdvice(code: string, variables: { server: string; ca: string }): string | undefined {
  const { server, ca } = variables;
  if (UNKNOWN_CA.test(code)) return `no CA that is trusted signed the certificate: ${ca}`;
  if (code === 'CERT_HAS_EXPIRED' || code === 'CERT_NOT_YET_VALID')
    return `the server needs another certificate, or a clock is wrong: ${server}`;
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID')
    return `the certificate is for another name than that in ${server}`;
  if (code === 'EPROTO' || /^ERR_SSL_.*(?:PROTOCOL|VERSION)/.test(code))
    return `the server must speak TLS 1.2 or newer: ${server}`;
  return undefined;
}
