import type { GeneratedToken } from '../../inference/requests.js';

/**
 * Tokasaurus' `system_fingerprint`: the token ids of every choice, the end token included, and on request its log-probs as
 * base64 of little-endian arrays: chosen float32 [T], ids int32 [T · k] and log-probs float32 [T · k] by rows, each row falling.
 * `topLogprobs` is k. Values are natural logs before temperature and filters; Tokasaurus divides by the temperature first.
 */
export function packFingerprint(choices: readonly (readonly GeneratedToken[])[], packed: boolean, topLogprobs: number): string {
  const rows = packed && topLogprobs > 0;
  return JSON.stringify({
    completion_ids: choices.map((tokens) => tokens.map(({ token }) => token)),
    packed_chosen_logprobs: packed ? choices.map((tokens) => packFloats(tokens.map(({ logprob }) => logprob as number))) : null,
    packed_topk_indices: rows ? choices.map((tokens) => packIntegers(tokens.flatMap(topIds))) : null,
    packed_topk_logprobs: rows ? choices.map((tokens) => packFloats(tokens.flatMap(topValues))) : null,
  });
}

function topIds({ topLogprobs }: GeneratedToken): number[] {
  return [...(topLogprobs?.tokenIds ?? [])];
}

function topValues({ topLogprobs }: GeneratedToken): number[] {
  return [...(topLogprobs?.logprobs ?? [])];
}

function packFloats(values: readonly number[]): string {
  return packWords(values.length, (bytes, index) => bytes.writeFloatLE(values[index] as number, index * 4));
}

function packIntegers(values: readonly number[]): string {
  return packWords(values.length, (bytes, index) => bytes.writeInt32LE(values[index] as number, index * 4));
}

function packWords(count: number, write: (bytes: Buffer, index: number) => void): string {
  const bytes = Buffer.alloc(count * 4);
  for (let index = 0; index < count; index++) write(bytes, index);
  return bytes.toString('base64');
}
