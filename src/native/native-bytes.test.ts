import { expect, test } from 'vitest';
import { viewMemory } from './koffi.js';
import { NativeBytes } from './native-bytes.js';

test('holds zeroed bytes outside of what JavaScript counts, until they are disposed', () => {
  const before = process.memoryUsage().arrayBuffers;
  const bytes = new NativeBytes(5_000_001);
  expect(bytes.byteLength).toBe(5_000_001);
  const view = new Uint8Array(viewMemory(bytes.address, bytes.byteLength));
  expect(view.every((value) => value === 0)).toBe(true);
  view.fill(7);
  expect(new Uint8Array(viewMemory(bytes.address + 4_999_999n, 2))).toEqual(Uint8Array.of(7, 7));
  expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
  bytes.dispose();
});

test('cannot be used once it is disposed, and may be disposed again', () => {
  const bytes = new NativeBytes(0);
  bytes.dispose();
  bytes.dispose();
  expect(() => bytes.address).toThrow(expect.objectContaining({ code: 'INTERNAL' }));
});

test('says so when there is no memory', () => {
  expect(() => new NativeBytes(2 ** 46)).toThrow(expect.objectContaining({ code: 'OUT_OF_MEMORY' }));
});
