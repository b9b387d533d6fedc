import { describe, expect, it } from 'vitest';
import { messageSizeBytes, stringAttributes } from './sqs-message.ts';

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

describe('stringAttributes', () => {
  it('stringAttributes, of names and values, gives them the type String', () => {
    expect(stringAttributes({ a: '1' })).toEqual({ a: { DataType: 'String', StringValue: '1' } });
  });
});
