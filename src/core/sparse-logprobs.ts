import { CartridgesError } from './errors.js';

/**
 * A sparse teacher distribution: entry n says that token `tokenId[n]` at row `tokenIndex[n]` of a message has natural-log
 * probability `logprob[n]`. Rows are in order, entries of a row by falling log-probability; `k` is the number asked for a row.
 */
export interface SparseLogprobs {
  tokenIndex: Int32Array;
  tokenId: Int32Array;
  logprob: Float32Array;
  rows: number;
  k: number;
}

/** Top-k log-probs of one generated token, by falling log-probability. */
export interface TopLogprobs {
  tokenIds: Int32Array;
  logprobs: Float32Array;
}

/**
 * Joins the rows of a message into one sparse distribution. Of each row the entries up to and including the first where the
 * cumulative probability reaches `minProbabilityMass` are kept; a row that never reaches it keeps all its entries.
 *
 * Upstream `cartridges/datasets.py` (`TopLogprobs.flatten`) keeps a single entry in the second case, which this does not.
 */
export function toSparseLogprobs(rows: readonly TopLogprobs[], k: number, minProbabilityMass = 0.99): SparseLogprobs {
  const counts = rows.map((row) => keptEntries(row.logprobs, minProbabilityMass));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const tokenIndex = new Int32Array(total);
  const tokenId = new Int32Array(total);
  const logprob = new Float32Array(total);
  let at = 0;
  rows.forEach((row, index) => {
    const count = counts[index] as number;
    tokenIndex.fill(index, at, at + count);
    tokenId.set(row.tokenIds.subarray(0, count), at);
    logprob.set(row.logprobs.subarray(0, count), at);
    at += count;
  });
  return { tokenIndex, tokenId, logprob, rows: rows.length, k };
}

function keptEntries(logprobs: Float32Array, minProbabilityMass: number): number {
  let mass = 0;
  for (let i = 0; i < logprobs.length; i++) {
    mass += Math.exp(logprobs[i] as number);
    if (mass >= minProbabilityMass) return i + 1;
  }
  return logprobs.length;
}

/** Of the most probable tokens of all rows, the probability of the least probable one; 1 without rows. */
export function leastBestProbability({ tokenIndex, logprob }: SparseLogprobs): number {
  let least = 0;
  for (let n = 0; n < tokenIndex.length; n++) {
    const isBestOfRow = n === 0 || tokenIndex[n] !== tokenIndex[n - 1];
    if (isBestOfRow) least = Math.min(least, logprob[n] as number);
  }
  return Math.exp(least);
}

/** Throws `INVALID_DATASET` unless lengths agree, rows rise from 0 to `rows` − 1, ids fit the vocabulary and log-probs are ≤ 0. */
export function checkSparseLogprobs(sparse: SparseLogprobs, vocabularySize: number, where: string): void {
  const { tokenIndex, tokenId, logprob, rows } = sparse;
  const fail = (what: string): never => {
    throw new CartridgesError('INVALID_DATASET', `${where}: ${what}`);
  };
  if (tokenIndex.length !== tokenId.length || tokenIndex.length !== logprob.length) fail('log-prob arrays differ in length');
  let row = -1;
  for (let n = 0; n < tokenIndex.length; n++) {
    const index = tokenIndex[n] as number;
    if (index !== row && index !== row + 1) fail(`log-prob entry ${n} belongs to row ${index} after row ${row}`);
    row = index;
    const id = tokenId[n] as number;
    if (id < 0 || id >= vocabularySize) fail(`token id ${id} is outside the vocabulary of ${vocabularySize}`);
    const value = logprob[n] as number;
    if (!(value <= 1e-4)) fail(`log-probability ${value} is not a number at most 0`);
  }
  if (row + 1 !== rows) fail(`${rows} rows are declared and ${row + 1} are present`);
}
