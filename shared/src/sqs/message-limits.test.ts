import { describe, expect, it } from 'vitest';
import { isMessageBody, messageSizeBytes, stringAttributes } from './message-limits.ts';

describe('messageSizeBytes', () => {
  it.each([
    ['of ASCII', 'abc', {}, 3],
    ['of Korean', '주문', {}, 6],
    ['of an emoji', '😀', {}, 4],
    [
      'with attributes, counts name, type and value',
      'abc',
      { a: 'xy', bc: '' },
      3 + (1 + 6 + 2) + (2 + 6 + 0),
    ],
    ['with attributes beyond ASCII, counts their bytes', '', { 이름: '값' }, 6 + 6 + 3],
  ])('messageSizeBytes, %s, counts UTF-8', (_what, body, attributes, bytes) => {
    expect(messageSizeBytes(body, attributes)).toBe(bytes);
  });
});

describe('isMessageBody', () => {
  it.each(['a', '\t\n\r', '\u007f', '주문', '😀', '\ufffd'])('isMessageBody, of %j, says yes', (text) => {
    expect(isMessageBody(text)).toBe(true);
  });

  it.each(['', '\u0000', 'a\u0001', 'a\ufffe', 'a\uffff', 'a\ud800'])(
    'isMessageBody, of %j, says no',
    (text) => {
      expect(isMessageBody(text)).toBe(false);
    },
  );
});

describe('stringAttributes', () => {
  it('stringAttributes, of names and values, gives them the type String', () => {
    expect(stringAttributes({ a: '1' })).toEqual({ a: { DataType: 'String', StringValue: '1' } });
  });
});
