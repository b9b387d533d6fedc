/** A UUID of any version, in the text of RFC 9562 §4, in either case. */
export const UUID = /^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** The smallest one, which is no order's (RFC 9562 §5.9). */
export const NIL_UUID = '00000000-0000-0000-0000-000000000000';
