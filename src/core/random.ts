/** 2³² over the golden ratio: multiples of it lie far apart. */
const GOLDEN_RATIO = 0x9e3779b9;

/** The four words of a generator: enough to continue the same sequence later. */
export type RandomState = [number, number, number, number];

/**
 * Seeded random numbers: xoshiro128** (Blackman and Vigna, 2018), seeded through splitmix32. The same seed gives the same
 * numbers on every platform; `state` continues a sequence after a restart.
 *
 * @example
 * const random = new Random(7).fork('chunks');   // independent of new Random(7).fork('seeds')
 * random.integer(10);                            // 0 … 9
 */
export class Random {
  #words: RandomState;

  constructor(seed: number | RandomState) {
    this.#words = typeof seed === 'number' ? expandSeed(seed) : [...seed];
  }

  get state(): RandomState {
    return [...this.#words];
  }

  /** A generator of its own for a named purpose: drawing from one does not shift the others. */
  fork(label: string): Random {
    let hash = 0x811c9dc5;
    for (const byte of Buffer.from(label)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
    const [a, b, c, d] = this.#words;
    return new Random(expandSeed((hash ^ a ^ rotateLeft(b, 8) ^ rotateLeft(c, 16) ^ rotateLeft(d, 24)) >>> 0));
  }

  /** Uniform 32-bit integer. */
  next(): number {
    const words = this.#words;
    const result = Math.imul(rotateLeft(Math.imul(words[1], 5), 7), 9) >>> 0;
    const shifted = words[1] << 9;
    words[2] ^= words[0];
    words[3] ^= words[1];
    words[1] ^= words[2];
    words[0] ^= words[3];
    words[2] ^= shifted;
    words[3] = rotateLeft(words[3], 11);
    return result;
  }

  /** Uniform in [0, 1), 32 bits of resolution. */
  uniform(): number {
    return this.next() / 2 ** 32;
  }

  /** Uniform integer in [0, bound). */
  integer(bound: number): number {
    return Math.floor(this.uniform() * bound);
  }

  /** Standard normal (Box and Muller). */
  normal(): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    return radius * Math.cos(2 * Math.PI * this.uniform());
  }

  pick<T>(items: readonly T[]): T {
    return items[this.integer(items.length)] as T;
  }

  /** One key of `weights`, drawn in proportion to its weight. */
  pickWeighted<K extends string>(weights: Readonly<Record<K, number>>): K {
    const entries = Object.entries(weights) as [K, number][];
    let rest = this.uniform() * entries.reduce((sum, [, weight]) => sum + weight, 0);
    for (const [key, weight] of entries) {
      rest -= weight;
      if (rest < 0) return key;
    }
    return (entries.at(-1) as [K, number])[0];
  }

  /** A shuffled copy (Fisher and Yates). */
  shuffle<T>(items: readonly T[]): T[] {
    const result = [...items];
    for (let i = result.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [result[i], result[j]] = [result[j] as T, result[i] as T];
    }
    return result;
  }
}

/** The number that a seed has for an index: uniform in (0, 1), and the same whatever else is drawn. */
export function uniformAt(seed: number, index: number): number {
  return (mix((mix(seed >>> 0) + Math.imul(index + 1, GOLDEN_RATIO)) >>> 0) + 0.5) / 2 ** 32;
}

function rotateLeft(word: number, bits: number): number {
  return ((word << bits) | (word >>> (32 - bits))) >>> 0;
}

function expandSeed(seed: number): RandomState {
  let state = seed >>> 0;
  const next = () => {
    state = (state + GOLDEN_RATIO) >>> 0;
    return mix(state);
  };
  return [next(), next(), next(), next()];
}

/** Spreads each bit of a word over all (the last step of splitmix32). */
function mix(bits: number): number {
  let word = bits ^ (bits >>> 16);
  word = Math.imul(word, 0x21f0aaad);
  word ^= word >>> 15;
  word = Math.imul(word, 0x735a2d97);
  return (word ^ (word >>> 15)) >>> 0;
}
