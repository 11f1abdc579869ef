import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TextStream } from './text-stream.js';

/** The pieces that a stream gives for bytes cut at the borders, up to a stop. */
function stream(text: string, borders: number[], stops: string[]): string[] {
  const bytes = Buffer.from(text);
  const cuts = [0, ...borders.map((border) => border % (bytes.length + 1)).sort((a, b) => a - b), bytes.length];
  const output = new TextStream(stops);
  const pieces: string[] = [];
  for (let i = 1; i < cuts.length && !output.stopped; i++) pieces.push(output.push(bytes.subarray(cuts[i - 1], cuts[i])));
  if (!output.stopped) pieces.push(output.end());
  return pieces;
}

it('gives the text before the first stop string, wherever the bytes are cut', () => {
  const text = fc.string({ unit: fc.constantFrom('a', 'b', 'c', 'ö', '漢', '🙂') });
  const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'ö', '漢'), minLength: 1, maxLength: 4 }), { maxLength: 2 });
  fc.assert(
    fc.property(text, fc.array(fc.nat(), { maxLength: 20 }), stops, (value, borders, stopStrings) => {
      const ends = stopStrings.map((stop) => value.indexOf(stop)).filter((index) => index >= 0);
      const expected = ends.length > 0 && borders.length === 0 ? value.slice(0, Math.min(...ends)) : undefined;
      const found = stream(value, borders, stopStrings).join('');
      if (ends.length === 0) expect(found).toBe(value);
      else if (expected !== undefined) expect(found).toBe(expected);
      else expect(stopStrings.every((stop) => !found.includes(stop)) && value.startsWith(found)).toBe(true);
    }),
  );
});

it('holds back a character until it is whole, and text while a stop string may be forming', () => {
  expect(stream('größer', [3], [])).toEqual(['gr', 'ößer', '']);
  expect(stream('one STOP two', [5, 7], ['STOP'])).toEqual(['one ', '', '']);
  expect(stream('one STEP', [5, 6], ['STOP'])).toEqual(['one ', '', 'STEP', '']);
});

it('shows a character that stays unfinished', () => {
  const output = new TextStream();
  expect(output.push(Buffer.from('é').subarray(0, 1))).toBe('');
  expect(output.end()).toBe('\uFFFD');
});
