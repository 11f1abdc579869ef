import { concatenate } from '../../core/concatenate.js';
import { throwIfAborted } from '../../core/errors.js';
import type { RunOptions } from '../../core/progress.js';
import type { FrozenModel } from '../../models/frozen-model.js';
import { type KeyValueRows, runForward } from '../../models/run-forward.js';

/** Tokens that one pass reads: the scores of a pass grow with its square, and a longer text goes in several. */
const PASS_TOKENS = 512;

/** The keys (rotated for positions 0 … n − 1) and values that the model computes for a text: what a prefill would leave behind. */
export async function computeTextRows(model: FrozenModel, tokens: Int32Array, options: RunOptions = {}): Promise<KeyValueRows> {
  let rows = await runForward(model, { tokens: tokens.subarray(0, PASS_TOKENS) }).then(withoutLogits);
  for (let start = PASS_TOKENS; start < tokens.length; start += PASS_TOKENS) {
    throwIfAborted(options.signal);
    rows = joinRows(rows, await runForward(model, { tokens: tokens.subarray(start, start + PASS_TOKENS), prefix: rows }));
  }
  return rows;
}

function withoutLogits({ keys, values }: KeyValueRows): KeyValueRows {
  return { keys, values };
}

function joinRows(first: KeyValueRows, second: KeyValueRows): KeyValueRows {
  const join = (kind: 'keys' | 'values') =>
    first[kind].map((layer, index) => concatenate(Float32Array, [layer, second[kind][index]!]));
  return { keys: join('keys'), values: join('values') };
}
