import fc from 'fast-check';
import { expect, it } from 'vitest';
import { TextDraft } from './text-draft.js';

const TEXT = Int32Array.of(10, 11, 12, 13, 14, 15, 16, 17, 18, 19);

function guessAfter(source: TextDraft, prompt: number[], answer: number[], count = 4) {
  const drafter = source.follow(Int32Array.from(prompt), answer.length);
  for (const token of answer) drafter.add(token);
  const { tokens, matched } = drafter.guess(count);
  return { tokens: [...tokens], matched };
}

it('goes on as the text does behind the longest match', () => {
  const text = new TextDraft(Int32Array.of(1, 2, 3, 4, 9, 2, 3, 5, 6, 7, 8));
  expect(guessAfter(text, [0], [2, 3], 2)).toEqual({ tokens: [4, 9], matched: 2 });
  expect(guessAfter(text, [0], [9, 2, 3], 2)).toEqual({ tokens: [5, 6], matched: 3 });
  expect(guessAfter(text, [9, 2], [3], 9)).toEqual({ tokens: [5, 6, 7, 8], matched: 3 });
  expect(guessAfter(text, [0], [7, 8])).toEqual({ tokens: [], matched: 0 });
  expect(guessAfter(text, [0], [3])).toEqual({ tokens: [], matched: 0 });
});

it('quotes the prompt and what was said before, and of two guesses the one with more behind it', () => {
  const own = new TextDraft();
  expect(guessAfter(own, [5, 6, 7, 8, 9], [0, 6, 7])).toEqual({ tokens: [8, 9, 0, 6], matched: 2 });
  expect(guessAfter(own, [0], [3, 4, 3, 4, 3], 3)).toEqual({ tokens: [4, 3], matched: 3 });
  expect(guessAfter(new TextDraft(TEXT), [12, 13, 99], [11, 12, 13], 2)).toEqual({ tokens: [14, 15], matched: 3 });
  expect(guessAfter(new TextDraft(TEXT), [12, 13, 99], [0, 12, 13], 1)).toEqual({ tokens: [99], matched: 2 });
});

it('looks at no more than eight last tokens', () => {
  expect(guessAfter(new TextDraft(TEXT), [0], [...TEXT.subarray(0, 9)])).toEqual({ tokens: [19], matched: 8 });
});

it('guesses what has followed the same tokens before, whatever they are', () => {
  const tokens = fc.array(fc.integer({ min: 0, max: 3 }), { minLength: 1, maxLength: 60 });
  fc.assert(
    fc.property(tokens, tokens, fc.integer({ min: 0, max: 20 }), (prompt, answer, count) => {
      const { tokens: guessed, matched } = guessAfter(new TextDraft(), prompt, answer, count);
      const all = [...prompt, ...answer];
      const places = all.flatMap((_, place) => {
        const end = place + matched;
        const isMatch = all.slice(-matched).every((token, i) => all[place + i] === token) && end < all.length;
        return isMatch ? [all.slice(end, end + count)] : [];
      });
      if (matched > 0) expect(places).toContainEqual(guessed);
      else expect(guessed).toEqual([]);
    }),
  );
});

it('has room for texts of any size, none at all included', () => {
  expect(guessAfter(new TextDraft(new Int32Array(0)), [0], [1, 2])).toEqual({ tokens: [], matched: 0 });
  const long = Int32Array.from({ length: (1 << 20) + 10 }, (_, i) => i);
  const last = (1 << 20) - 1;
  expect(guessAfter(new TextDraft(long), [0], [last - 2, last - 1])).toEqual({ tokens: [last], matched: 2 });
  expect(guessAfter(new TextDraft(long), [0], [last, last + 1])).toEqual({ tokens: [], matched: 0 });
});
