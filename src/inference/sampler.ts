import type { Sampling } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import { Random, type RandomState } from '../core/random.js';
import { indexAtMass, sumOfExponentials } from './log-sum-exp.js';
import type { TopCandidates } from './top-logprobs.js';

/** Below this the division by the temperature leaves one token: it is taken as greedy. */
const SMALLEST_TEMPERATURE = 1e-4;
const FIRST_CANDIDATES = 64;
const MAX_PENALTY = 2;

/**
 * Chooses the next token of one request from its logits. Temperature comes first, then top-k, top-p and min-p. Its random
 * numbers are its own, one a draw: what it draws does not depend on the requests beside it.
 */
export class Sampler {
  readonly #scale: number;
  readonly #topK: number;
  readonly #topP: number;
  readonly #minP: number;
  readonly #random: Random;

  /** Begins at `random` where it is given, in place of the seed. Throws `INVALID_OPTION` for a value out of range. */
  constructor(sampling: Sampling, random?: RandomState) {
    checkSampling(sampling);
    const { temperature, topK = 0, topP = 1, minP = 0, seed = 0 } = sampling;
    this.#scale = temperature < SMALLEST_TEMPERATURE ? Number.POSITIVE_INFINITY : 1 / temperature;
    this.#topK = topK;
    this.#topP = topP;
    this.#minP = minP;
    this.#random = new Random(random ?? seed);
  }

  /** Always takes the best token. */
  get isGreedy(): boolean {
    return this.#scale === Number.POSITIVE_INFINITY;
  }

  /** What its next draw begins with. */
  get random(): RandomState {
    return this.#random.state;
  }

  /** Leaves tokens out that are not probable enough. */
  get isFiltered(): boolean {
    return this.#topK > 0 || this.#topP < 1 || this.#minP > 0;
  }

  /** The next token. `candidates` hold at least the best one; they may be filled anew. */
  choose(logits: Float32Array, candidates: TopCandidates): number {
    const best = candidates.ids[0] as number;
    if (this.isGreedy) return best;
    const draw = this.#random.uniform();
    return this.isFiltered ? this.#chooseFiltered(logits, candidates, draw) : this.#chooseAny(logits, candidates, draw);
  }

  /** Goes on as if it had chosen a token: one with these random numbers has. */
  passOver(): void {
    if (!this.isGreedy) this.#random.uniform();
  }

  #chooseAny(logits: Float32Array, candidates: TopCandidates, draw: number): number {
    const largest = candidates.logits[0] as number;
    return indexAtMass(logits, largest, this.#scale, draw * sumOfExponentials(logits, largest, this.#scale));
  }

  #chooseFiltered(logits: Float32Array, candidates: TopCandidates, draw: number): number {
    const largest = candidates.logits[0] as number;
    const total = this.#topK > 0 ? undefined : sumOfExponentials(logits, largest, this.#scale);
    const limit = this.#topK > 0 ? Math.min(this.#topK, logits.length) : logits.length;
    let count = this.#topK > 0 ? limit : Math.min(FIRST_CANDIDATES, limit);
    let kept = this.#keep(logits, candidates, count, total);
    while (kept.incomplete && count < limit) {
      count = Math.min(count * 4, limit);
      kept = this.#keep(logits, candidates, count, total);
    }
    const mass = kept.weights.reduce((sum, weight) => sum + weight, 0) * draw;
    return candidates.ids[firstPassing(kept.weights, mass)] as number;
  }

  /** Weights of the `count` best that pass top-p and min-p; `incomplete` when all pass and a worse one might too. */
  #keep(logits: Float32Array, candidates: TopCandidates, count: number, total: number | undefined) {
    if (candidates.count < count) candidates.select(logits, count);
    const weights = new Float64Array(count);
    for (let i = 0; i < count; i++) {
      weights[i] = Math.exp(((candidates.logits[i] as number) - (candidates.logits[0] as number)) * this.#scale);
    }
    const wanted = this.#topP * (total ?? weights.reduce((sum, weight) => sum + weight, 0));
    let passed = 0;
    for (let i = 0; i < count; i++) {
      if ((weights[i] as number) < this.#minP) return { weights: weights.subarray(0, i), incomplete: false };
      passed += weights[i] as number;
      if (passed >= wanted) return { weights: weights.subarray(0, i + 1), incomplete: false };
    }
    return { weights, incomplete: true };
  }
}

function firstPassing(weights: Float64Array, mass: number): number {
  let sum = 0;
  const index = weights.findIndex((weight) => {
    sum += weight;
    return sum > mass;
  });
  return Math.max(index, 0);
}

function checkSampling(sampling: Sampling): void {
  const { temperature, topK = 0, topP = 1, minP = 0, seed, logitBias } = sampling;
  if (!(Number.isFinite(temperature) && temperature >= 0)) refuse(`the temperature ${temperature} is not a number of at least 0`);
  if (!(Number.isInteger(topK) && topK >= 0)) refuse(`top-k ${topK} is not a whole number of at least 0`);
  if (!(topP > 0 && topP <= 1)) refuse(`top-p ${topP} is not above 0 and at most 1`);
  if (!(minP >= 0 && minP <= 1)) refuse(`min-p ${minP} is not between 0 and 1`);
  for (const bias of logitBias?.values() ?? []) if (!Number.isFinite(bias)) refuse(`the bias ${bias} is not a number`);
  checkPenalty('frequency', sampling.frequencyPenalty);
  checkPenalty('presence', sampling.presencePenalty);
  if (temperature > 0 && !Number.isInteger(seed)) refuse('a temperature above 0 needs a whole number as seed');
}

function checkPenalty(name: string, penalty = 0): void {
  if (!(Math.abs(penalty) <= MAX_PENALTY))
    refuse(`the ${name} penalty ${penalty} is not between -${MAX_PENALTY} and ${MAX_PENALTY}`);
}

function refuse(what: string): never {
  throw new CartridgesError('INVALID_OPTION', `sampling: ${what}`);
}
