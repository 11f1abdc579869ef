import fc from 'fast-check';
import { expect, it } from 'vitest';
import type { Sampling } from '../chat/chat-client.js';
import { Random } from '../core/random.js';
import { Sampler } from './sampler.js';
import { TopCandidates } from './top-logprobs.js';

/** Probabilities 0.4, 0.3, 0.2, 0.1 of tokens 2, 0, 3, 1. */
const LOGITS = Float32Array.of(Math.log(0.3), Math.log(0.1), Math.log(0.4), Math.log(0.2));

function draws(sampling: Sampling, count: number, logits = LOGITS): number[] {
  const sampler = new Sampler(sampling);
  const candidates = new TopCandidates();
  return Array.from({ length: count }, () => {
    candidates.select(logits, sampler.candidateCount);
    return sampler.choose(logits, candidates);
  });
}

const kept = (sampling: Partial<Sampling>) => [...new Set(draws({ temperature: 1, seed: 1, ...sampling }, 400))].sort();

it('takes the best token at temperature 0, the lower id of two equal ones', () => {
  expect(draws({ temperature: 0 }, 3)).toEqual([2, 2, 2]);
  expect(draws({ temperature: 0 }, 1, Float32Array.of(1, 5, 5))).toEqual([1]);
});

it.each([
  ['alone', {}],
  ['with a top-p that keeps all', { topP: 0.9999 }],
  ['with a top-k that keeps all', { topK: 4 }],
])('draws in proportion to the probabilities %s', (_, filter) => {
  const counts = [0, 0, 0, 0];
  for (const token of draws({ temperature: 1, seed: 5, ...filter }, 20_000)) counts[token]!++;
  [0.3, 0.1, 0.4, 0.2].forEach((probability, token) => {
    expect(counts[token]! / 20_000).toBeCloseTo(probability, 1);
    expect(Math.abs(counts[token]! / 20_000 - probability)).toBeLessThan(0.015);
  });
});

it('filters by rank, by mass and by share of the best', () => {
  expect(kept({ topK: 2 })).toEqual([0, 2]);
  expect(kept({ topP: 0.69 })).toEqual([0, 2]);
  expect(kept({ topP: 0.71 })).toEqual([0, 2, 3]);
  expect(kept({ minP: 0.6 })).toEqual([0, 2]);
  expect(kept({ topK: 3, topP: 0.5 })).toEqual([0, 2]);
  expect(kept({ topP: 0.01 })).toEqual([2]);
});

it('applies the temperature before the filters', () => {
  expect(kept({ temperature: 4, minP: 0.7 })).toEqual([0, 1, 2, 3]);
  expect(kept({ temperature: 0.1, topP: 0.9 })).toEqual([2]);
});

it('finds the whole nucleus of a flat distribution of many tokens', () => {
  const flat = new Float32Array(2000);
  const seen = new Set(draws({ temperature: 1, seed: 2, topP: 0.5 }, 20_000, flat));
  expect(Math.max(...seen)).toBeGreaterThan(900);
  expect(Math.max(...seen)).toBeLessThan(1001);
});

/** Probabilities of tokens that a filter keeps, over those of all, and 0 of the others. */
function exactProbabilities(logits: Float32Array, { temperature, topP = 1, minP = 0 }: Partial<Sampling>): Float64Array {
  const largest = Math.max(...logits);
  const weights = Float64Array.from(logits, (logit) => Math.exp((logit - largest) / temperature!));
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const kept = new Float64Array(logits.length);
  let mass = 0;
  for (const token of [...logits.keys()].sort((a, b) => logits[b]! - logits[a]! || a - b)) {
    if (mass >= topP * total || weights[token]! < minP) break;
    mass += weights[token]!;
    kept[token] = weights[token]!;
  }
  return kept.map((weight) => weight / mass);
}

it.each<[string, Partial<Sampling>]>([
  ['a few tokens have nearly all of it', { temperature: 0.7 }],
  ['many have some of it', { temperature: 2 }],
  ['nearly all have as much', { temperature: 30 }],
  ['few are kept', { temperature: 1, topP: 0.5 }],
  ['hundreds are kept', { temperature: 3, topP: 0.9 }],
  ['those with a share of the best are kept', { temperature: 3, minP: 0.1 }],
  ['both filters keep hundreds', { temperature: 4, topP: 0.8, minP: 0.02 }],
])('draws as often as the probabilities say where %s', (_, sampling) => {
  const random = new Random(3);
  const logits = Float32Array.from({ length: 1000 }, () => 2 * random.normal());
  const expected = exactProbabilities(logits, sampling);
  const count = 10_000;
  const found = new Float64Array(logits.length);
  for (const token of draws({ seed: 9, ...sampling } as Sampling, count, logits)) found[token]! += 1 / count;
  expect(found.filter((share, token) => share > 0 && expected[token] === 0)).toHaveLength(0);
  const byRank = [...logits.keys()].sort((a, b) => logits[b]! - logits[a]!);
  for (const [first, end] of [
    [0, 1],
    [1, 8],
    [8, 64],
    [64, 80],
    [80, 300],
    [300, 1000],
  ]) {
    const share = (of: Float64Array) => byRank.slice(first, end).reduce((sum, token) => sum + of[token]!, 0);
    const exact = share(expected);
    // Five standard deviations.
    expect(Math.abs(share(found) - exact)).toBeLessThanOrEqual(5 * Math.sqrt((exact * (1 - exact)) / count) + 1e-9);
  }
});

it.each<[string, Partial<Sampling>]>([
  ['alone', {}],
  ['with top-k', { topK: 40 }],
  ['with top-p', { topP: 0.9 }],
])('draws the same where rounding moves the logits %s', (_, filter) => {
  const random = new Random(6);
  const logits = Float32Array.from({ length: 1000 }, () => 3 * random.normal());
  const rounded = logits.map((logit) => logit + 0.01 * random.normal());
  const count = 5000;
  const [before, after] = [logits, rounded].map((values) => draws({ temperature: 1, seed: 3, ...filter }, count, values));
  const parted = before!.filter((token, draw) => token !== after![draw]).length / count;
  const [exact, moved] = [logits, rounded].map((values) => exactProbabilities(values, { temperature: 1 }));
  // No draws of the two part less often than half of the sum; these may do so twice as often.
  const least = exact!.reduce((sum, probability, token) => sum + Math.abs(probability - moved![token]!), 0) / 2;
  expect(least).toBeGreaterThan(0.002);
  expect(parted).toBeLessThan(2 * least + 5 * Math.sqrt(least / count));
});

it.each([
  ['are numbers', Number.NaN],
  ['are not ruled out', Number.NEGATIVE_INFINITY],
])('draws one of those that %s', (_, other) => {
  const many = new Float32Array(300).fill(other).fill(1, 100, 200);
  const few = new Float32Array(300).fill(other).fill(1, 100, 110);
  for (const filter of [{}, { topP: 0.5 }, { minP: 0.5 }, { topK: 250 }]) {
    for (const logits of [many, few]) {
      const tokens = draws({ temperature: 1, seed: 4, ...filter }, 50, logits);
      expect(tokens.every((token) => logits[token] === 1)).toBe(true);
      expect(new Set(tokens).size).toBeGreaterThan(4);
    }
  }
});

it('draws only tokens of the vocabulary, and the same ones for the same seed', () => {
  const sampling = fc.record({
    temperature: fc.double({ min: 0, max: 5, noNaN: true }),
    topK: fc.integer({ min: 0, max: 300 }),
    topP: fc.double({ min: 0.01, max: 1, noNaN: true }),
    minP: fc.double({ min: 0, max: 1, noNaN: true }),
    seed: fc.integer(),
  });
  const logits = fc.float32Array({ minLength: 1, maxLength: 200, min: -50, max: 50, noNaN: true });
  fc.assert(
    fc.property(sampling, logits, (settings, values) => {
      const tokens = draws(settings, 3, values);
      expect(tokens.every((token) => token >= 0 && token < values.length)).toBe(true);
      expect(draws(settings, 3, values)).toEqual(tokens);
    }),
  );
});

it.each([
  { temperature: -1 },
  { temperature: Number.NaN },
  { temperature: 1 },
  { temperature: 1, seed: 0.5 },
  { temperature: 0, topK: -1 },
  { temperature: 0, topP: 0 },
  { temperature: 0, minP: 2 },
])('refuses %o', (sampling) => {
  expect(() => new Sampler(sampling)).toThrow(expect.objectContaining({ code: 'INVALID_OPTION' }));
});

it.each([{ temperature: 0 }, { temperature: 1, seed: 4 }, { temperature: 1, topK: 3, seed: 4 }])(
  'goes on where another one with the same random numbers stands: %o',
  (sampling) => {
    const [first, follower] = [new Sampler(sampling), new Sampler(sampling)];
    const candidates = new TopCandidates();
    const next = (sampler: Sampler) => {
      candidates.select(LOGITS, 1);
      return sampler.choose(LOGITS, candidates);
    };
    for (let token = 0; token < 5; token++) {
      next(first);
      follower.passOver();
    }
    const taken = new Sampler(sampling, first.random);
    for (let token = 0; token < 20; token++) expect([next(follower), next(taken)]).toEqual(new Array(2).fill(next(first)));
  },
);
