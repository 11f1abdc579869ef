import { describe, expect, it } from 'vitest';
import { parseRetryAfter } from './retry.js';

describe('parseRetryAfter', () => {
  const now = Date.parse('2030-01-01T00:00:00Z');

  it('reads seconds and dates', () => {
    expect(parseRetryAfter('2', now)).toBe(2000);
    expect(parseRetryAfter('Tue, 01 Jan 2030 00:00:05 GMT', now)).toBe(5000);
    expect(parseRetryAfter('Tue, 01 Jan 2019 00:00:05 GMT', now)).toBe(0);
  });

  it.each([null, '', 'soon', 'Infinity'])('knows nothing from %s', (header) => {
    expect(parseRetryAfter(header, now)).toBeUndefined();
  });
});
