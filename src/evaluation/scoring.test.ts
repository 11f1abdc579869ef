import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Question } from './questions.js';
import { BUILT_IN_REFUSALS, isAbstention, isCorrect, isExact } from './scoring.js';

function question(answer: string | null, more: Partial<Question> = {}): Question {
  return { id: 'q', question: 'Q?', answer, accept: [], extra: {}, ...more };
}

const word = fc.stringMatching(/^[a-z]{1,8}$/);

describe('isCorrect', () => {
  it.each([
    ['The first light was lit on 9 October, 1871.', true],
    ['On October 9, 1871', true],
    ['In 1871.', false],
    ['', false],
  ])('of the reply %j is %s', (reply, expected) => {
    expect(isCorrect(reply, question('9 October 1871', { accept: ['October 9, 1871'] }))).toBe(expected);
  });

  it('holds for every sentence around the answer', () => {
    fc.assert(
      fc.property(fc.array(word), word, fc.array(word), (before, answer, after) => {
        expect(isCorrect([...before, `"${answer.toUpperCase()}".`, ...after].join(' '), question(answer))).toBe(true);
      }),
    );
  });

  it('is false where there is no answer, whatever the reply', () => {
    fc.assert(fc.property(fc.string(), (reply) => !isCorrect(reply, question(null))));
  });

  it('wants an answer of punctuation to stand alone', () => {
    expect(['It expects ;', 'Commas; no.', '', '?!'].map((reply) => isCorrect(reply, question(';')))).toEqual([
      true,
      false,
      false,
      false,
    ]);
    expect([' ;\n', ';;'].map((reply) => isExact(reply, question(';')))).toEqual([true, false]);
  });
});

describe('isCorrect with choices', () => {
  const colours = question('dark red', { choices: ['red', 'dark red', 'green'] });

  it.each([
    ['Dark red.', true],
    ['The flag is dark red', true],
    ['red', false],
    ['dark red or green', false],
    ['B', true],
    ['(b)', true],
    ['B. It is red', true],
    ['A: dark red', false],
    ['A dark red flag', true],
    ['I do not know', false],
    ['Z', false],
  ])('of the reply %j is %s', (reply, expected) => {
    expect(isCorrect(reply, colours)).toBe(expected);
  });
});

describe('isExact', () => {
  it('wants the answer and nothing else', () => {
    const asked = question('41 metres', { accept: ['41 m'] });
    expect(['41 Metres.', '41 m', 'It is 41 metres', ''].map((reply) => isExact(reply, asked))).toEqual([
      true,
      true,
      false,
      false,
    ]);
  });
});

describe('isAbstention', () => {
  it('finds a refusal anywhere in the reply', () => {
    expect(isAbstention('Sorry, the text does NOT say.', ['The text does not say.'])).toBe(true);
    expect(isAbstention('The text says nine.', ['The text does not say.'])).toBe(false);
    expect(isAbstention('anything', [])).toBe(false);
    expect(isAbstention('anything', ['...'])).toBe(false);
  });

  it('knows common refusals', () => {
    for (const reply of [
      'I don’t know.',
      "I don't know that.",
      'The text does not mention her age.',
      'There is no information on it',
    ]) {
      expect(isAbstention(reply, BUILT_IN_REFUSALS)).toBe(true);
    }
    expect(isAbstention('The keeper knows the way.', BUILT_IN_REFUSALS)).toBe(false);
  });
});
