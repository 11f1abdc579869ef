import fc from 'fast-check';
import { expect, test } from 'vitest';
import { jsonDepth } from './json-depth.js';

const depthOf = (text: string) => jsonDepth(new TextEncoder().encode(text));

function depthOfValue(value: unknown): number {
  if (typeof value !== 'object' || value === null) return 0;
  return 1 + Math.max(0, ...Object.values(value).map(depthOfValue));
}

test('counts as a parser would, whatever is in the strings', () => {
  fc.assert(fc.property(fc.jsonValue({ maxDepth: 6 }), (value) => depthOf(JSON.stringify(value)) === depthOfValue(value)));
});

test.each([
  ['"[[["', 0],
  ['["\\"[["]', 1],
  ['["\\\\",[]]', 2],
  ['{"a":{"b":[1,2,{}]}}', 4],
  ['[['.repeat(10), 20],
])('%s has %i levels', (text, depth) => {
  expect(depthOf(text)).toBe(depth);
});

test('a bomb is measured at once', () => {
  const started = performance.now();
  expect(jsonDepth(new Uint8Array(8 << 20).fill(0x5b))).toBe(8 << 20);
  expect(performance.now() - started).toBeLessThan(2000);
});
