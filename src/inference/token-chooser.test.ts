import { expect, it } from 'vitest';
import type { Sampling } from '../chat/chat-client.js';
import type { GrammarFactory } from './grammar/grammar-constraint.js';
import { TokenChooser } from './token-chooser.js';
import { TopCandidates } from './top-logprobs.js';

const LOGITS = [1, 4, 3, 2];

/** A grammar of tokens: which of them may come at each step. */
function grammarOf(...steps: number[][]) {
  const accepted: number[] = [];
  const constraint = {
    accepted,
    allows: (token: number) => steps[accepted.length]!.includes(token),
    forbid(logits: Float32Array) {
      const originals = logits.slice();
      for (const token of logits.keys()) if (!this.allows(token)) logits[token] = Number.NEGATIVE_INFINITY;
      return () => logits.set(originals);
    },
    accept: (token: number) => accepted.push(token),
    dispose: () => {},
  };
  return { constraint, factory: { parse: () => constraint } as unknown as GrammarFactory };
}

function choose(sampling: Sampling, count: number, factory?: GrammarFactory): number[] {
  const chooser = new TokenChooser({ sampling, grammar: factory && 'given' }, factory ?? grammarOf().factory);
  const candidates = new TopCandidates();
  const logits = Float32Array.from(LOGITS);
  return Array.from({ length: count }, () => {
    candidates.select(logits, 1);
    const token = chooser.choose(logits, candidates);
    expect([...logits]).toEqual(LOGITS);
    return token;
  });
}

it('adds biases to the logits and takes penalties for what was generated', () => {
  expect(choose({ temperature: 0 }, 2)).toEqual([1, 1]);
  expect(
    choose(
      {
        temperature: 0,
        logitBias: new Map([
          [0, 3.5],
          [1, -0.5],
        ]),
      },
      2,
    ),
  ).toEqual([0, 0]);
  // 4, 3, 2, 1 lose 2 at the first time, and nothing more.
  expect(choose({ temperature: 0, presencePenalty: 1.5 }, 4)).toEqual([1, 2, 1, 1]);
  // 4 → 2.9 → 1.8 → 0.7 and so on.
  expect(choose({ temperature: 0, frequencyPenalty: 1.1 }, 5)).toEqual([1, 2, 1, 3, 2]);
  expect(choose({ temperature: 0, frequencyPenalty: -1, logitBias: new Map([[3, 1.9]]) }, 2)).toEqual([1, 1]);
});

it('asks the grammar for all tokens only when it refuses the chosen one', () => {
  const { constraint, factory } = grammarOf([1, 2], [0, 3], [2]);
  expect(choose({ temperature: 0 }, 3, factory)).toEqual([1, 3, 2]);
  expect(constraint.accepted).toEqual([1, 3, 2]);
});

it('draws among the allowed tokens as often as they are likely among each other', () => {
  const steps = Array.from({ length: 4000 }, () => [0, 3]);
  const drawn = choose({ temperature: 1, seed: 3 }, 4000, grammarOf(...steps).factory);
  const share = drawn.filter((token) => token === 3).length / 4000;
  expect(Math.abs(share - Math.E / (1 + Math.E))).toBeLessThan(0.025);
});

it('says so when no token is allowed', () => {
  expect(() => choose({ temperature: 1, seed: 1 }, 1, grammarOf([]).factory)).toThrow(
    expect.objectContaining({ code: 'INVALID_INPUT' }),
  );
});

it.each([{ frequencyPenalty: 2.1 }, { presencePenalty: Number.NaN }, { logitBias: new Map([[1, Number.NaN]]) }])(
  'refuses %o',
  (sampling) => {
    expect(() => choose({ temperature: 0, ...sampling }, 1)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
  },
);
