import type { Sampling } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import { Random, type RandomState } from '../core/random.js';
import { Nucleus } from './nucleus.js';
import { TokenRace } from './token-race.js';
import type { TopCandidates } from './top-logprobs.js';
import { WeighedTokens } from './weighed-tokens.js';

/** Below this the division by the temperature leaves one token: it is taken as greedy. */
const SMALLEST_TEMPERATURE = 1e-4;
/** So many of the best tokens are weighed, where top-k names no number: they have nearly all of the mass. */
const WEIGHED_CANDIDATES = 64;
const MAX_PENALTY = 2;

/**
 * Chooses the next token of one request from its logits. Temperature comes first, then top-k, top-p and min-p. Its random
 * numbers are its own, one a choice: what it draws does not depend on the requests beside it.
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

  /** As many of the best tokens are looked at in any case. */
  get candidateCount(): number {
    if (this.isGreedy) return 1;
    return this.#topK > 0 ? this.#topK : WEIGHED_CANDIDATES;
  }

  /** What its next choice begins with. */
  get random(): RandomState {
    return this.#random.state;
  }

  /** Leaves tokens out that are not probable enough. */
  get isFiltered(): boolean {
    return this.#topK > 0 || this.#topP < 1 || this.#minP > 0;
  }

  /** The next token. `candidates` hold at least the best one, {@link candidateCount} at best; they may be filled anew. */
  choose(logits: Float32Array, candidates: TopCandidates): number {
    if (this.isGreedy) return candidates.ids[0] as number;
    const wanted = Math.min(this.candidateCount, logits.length);
    if (candidates.count < wanted) candidates.select(logits, wanted);
    const tokens = new WeighedTokens(logits, candidates, Math.min(wanted, candidates.count), this.#scale);
    const race = new TokenRace(tokens, this.#random.next());
    if (this.#topK > 0) return race.firstAmongBest(this.#countKept(tokens, tokens.mass));
    const first = race.firstOfAll();
    return this.isFiltered ? this.#filter(first, tokens, race) : first;
  }

  /** Goes on as if it had chosen a token: one with these random numbers has. */
  passOver(): void {
    if (!this.isGreedy) this.#random.next();
  }

  /**
   * The first of the tokens that top-p and min-p keep: the first of all where it is one of them. Most are kept whatever all tokens weigh
   * together, which takes longest to find out.
   */
  #filter(first: number, tokens: WeighedTokens, race: TokenRace): number {
    if (tokens.isAmongBest(first, this.#countKept(tokens, tokens.mass))) return first;
    const nucleus = new Nucleus(tokens, this.#topP);
    const kept = this.#countKept(tokens, nucleus.total);
    if (kept < tokens.weights.length) return race.firstAmongBest(kept);
    return race.firstOfAll((token) => tokens.weightOf(token) >= this.#minP && nucleus.has(token));
  }

  /** How many of the best tokens pass top-p and min-p, if all tokens together weigh `total`. */
  #countKept({ weights }: WeighedTokens, total: number): number {
    let mass = 0;
    for (const [rank, weight] of weights.entries()) {
      if (weight < this.#minP) return rank;
      mass += weight;
      if (mass >= this.#topP * total) return rank + 1;
    }
    return weights.length;
  }
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
