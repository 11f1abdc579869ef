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
    /** How often all tokens were asked for. */
    looks: 0,
    allows: (token: number) => steps[accepted.length]!.includes(token),
    forbid(logits: Float32Array) {
      this.looks++;
      const originals = logits.slice();
      for (const token of logits.keys()) if (!this.allows(token)) logits[token] = Number.NEGATIVE_INFINITY;
      return () => logits.set(originals);
    },
    accept: (token: number) => accepted.push(token),
    dispose: () => {},
  };
  return { constraint, factory: { parse: () => constraint } as unknown as GrammarFactory };
}

function choose(sampling: Sampling, count: number, factory?: GrammarFactory, given = LOGITS): number[] {
  const chooser = new TokenChooser({ sampling, grammar: factory && 'given' }, factory ?? grammarOf().factory);
  const candidates = new TopCandidates();
  const logits = Float32Array.from(given);
  return Array.from({ length: count }, () => {
    candidates.select(logits, 1);
    const token = chooser.choose(logits, candidates);
    expect([...logits]).toEqual(given);
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

/** Shares of the tokens in many draws, and those that a softmax over the given ones has. */
function shares(allowed: number[], sampling: Partial<Sampling>, given: number[], kept = allowed) {
  const draws = 6000;
  const { constraint, factory } = grammarOf(...Array.from({ length: draws }, () => allowed));
  const drawn = choose({ temperature: 1, seed: 3, ...sampling }, draws, factory, given);
  const weights = given.map((logit, token) => (kept.includes(token) ? Math.exp(logit / (sampling.temperature ?? 1)) : 0));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return {
    looks: constraint.looks,
    drawn: given.map((_, token) => drawn.filter((each) => each === token).length / draws),
    expected: weights.map((weight) => weight / total),
  };
}

const EIGHT = [1, 4, 3, 2, 2.5, 3.5, 0, 1.5];

it.each<[string, number[], Partial<Sampling>, number[]?]>([
  ['all', [0, 1, 2, 3, 4, 5, 6, 7], {}],
  ['most', [0, 2, 3, 4, 6, 7], {}],
  ['few', [0, 6, 7], {}],
  ['few at another temperature', [0, 3, 6], { temperature: 1.7 }],
  // Filters choose among those that are allowed.
  ['few by top-k', [0, 3, 6, 7], { topK: 2 }, [3, 7]],
  ['few by min-p', [0, 3, 6, 7], { minP: 0.5 }, [3, 7]],
])('draws among the allowed tokens as often as they are likely among each other: %s', (_, allowed, sampling, kept) => {
  // With all allowed, what a filter chooses from the first draw on is not what this is about.
  const { drawn, expected } = shares(allowed, sampling, EIGHT, kept);
  for (const [token, share] of expected.entries()) expect(Math.abs(drawn[token]! - share), String(token)).toBeLessThan(0.025);
});

it('does not ask the grammar for all tokens to draw again, unless many are refused', () => {
  expect(shares([0, 2, 3, 4, 6, 7], {}, EIGHT).looks).toBe(0);
  const hundred = Array.from({ length: 100 }, (_, token) => (token < 2 ? 0 : 1));
  const { looks, drawn } = shares([0, 1], {}, hundred);
  expect(looks).toBeGreaterThan(5000);
  expect(Math.abs(drawn[0]! - 0.5)).toBeLessThan(0.025);
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
