import { z } from 'zod';
import { CartridgesError } from '../core/errors.js';
import { tryParse } from '../core/json.js';
import type { TopLogprobs } from '../core/sparse-logprobs.js';

/** Tokasaurus' `system_fingerprint`: JSON with token ids, and base64 of little-endian arrays [T, k] for each choice. */
const fingerprint = z.object({
  completion_ids: z.array(z.array(z.int().min(0).max(0x7fff_ffff))).min(1),
  packed_topk_indices: z.array(z.string()).nullish(),
  packed_topk_logprobs: z.array(z.string()).nullish(),
});

export interface UnpackedTokens {
  tokenIds: Int32Array;
  /** A row for each token; none when no log-probs were asked for. */
  rows: TopLogprobs[];
}

/** Rounding may lift the log-probability of a certain token above 0 by this much. */
const ROUNDING = 1e-4;

/**
 * Reads the tokens of the first choice, and `k` top log-probs of each. Throws `SERVER_FAILED` unless sizes agree and each row
 * has falling log-probabilities of token ids.
 */
export function unpackLogprobs(text: string, k: number): UnpackedTokens {
  const { data } = fingerprint.safeParse(tryParse(text));
  if (!data) throw damaged('it is not what Tokasaurus sends');
  const tokenIds = Int32Array.from(data.completion_ids[0] as number[]);
  if (k === 0) return { tokenIds, rows: [] };
  const ids = unpack(data.packed_topk_indices?.[0], tokenIds.length * k);
  const logprobs = unpack(data.packed_topk_logprobs?.[0], tokenIds.length * k);
  const rows = Array.from({ length: tokenIds.length }, (_, row) => readRow(ids, logprobs, row * k, k));
  return { tokenIds, rows };
}

function readRow(ids: DataView, logprobs: DataView, first: number, k: number): TopLogprobs {
  const row = { tokenIds: new Int32Array(k), logprobs: new Float32Array(k) };
  let before = ROUNDING;
  for (let column = 0; column < k; column++) {
    const offset = (first + column) * 4;
    const id = ids.getInt32(offset, true);
    const logprob = logprobs.getFloat32(offset, true);
    // The second comparison is false for no number too.
    if (id < 0 || !(logprob <= before)) throw damaged(`entry ${first + column} is ${id} with ${logprob}`);
    row.tokenIds[column] = id;
    row.logprobs[column] = before = logprob;
  }
  return row;
}

function unpack(base64: string | undefined, values: number): DataView {
  const bytes = Buffer.from(base64 ?? '', 'base64');
  if (bytes.byteLength !== values * 4) throw damaged(`an array has ${bytes.byteLength} bytes, not ${values * 4}`);
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function damaged(what: string): CartridgesError {
  return new CartridgesError('SERVER_FAILED', `the server's packed log-probs cannot be read: ${what}`, {
    hint: 'only servers that pack them into system_fingerprint can be asked for log-probs with token ids',
  });
}
