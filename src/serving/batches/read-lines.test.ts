import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { removeFolder, temporaryFolder } from '../../../test/support/batch-fixture.js';
import { readLines } from './read-lines.js';

const folder = await temporaryFolder();
const path = join(folder, 'lines');
afterAll(() => removeFolder(folder));

it('gives every line with its place, and no bytes of those that are too long', async () => {
  const line = fc.oneof(fc.string({ maxLength: 12 }), fc.constant('x'.repeat(70_000)));
  await fc.assert(
    fc.asyncProperty(fc.array(line), async (drawn) => {
      const lines = drawn.map((text) => text.replaceAll('\n', ' '));
      const text = lines.join('\n');
      await writeFile(path, text);
      const expected = text === '' ? [] : text.endsWith('\n') ? lines.slice(0, -1) : lines;
      const found = [];
      for await (const { bytes, number, offset, length, isTerminated } of readLines(path, 40)) {
        expect(
          Buffer.from(text)
            .subarray(offset, offset + length)
            .toString(),
        ).toBe(lines[number - 1]);
        expect(isTerminated).toBe(number < lines.length);
        found.push(bytes?.toString());
      }
      expect(found).toEqual(expected.map((wanted) => (Buffer.byteLength(wanted) <= 40 ? wanted : undefined)));
    }),
    { numRuns: 50 },
  );
});
