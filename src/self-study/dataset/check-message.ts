import { CartridgesError } from '../../core/errors.js';
import type { Message } from '../../core/message.js';
import { checkSparseLogprobs } from '../../core/sparse-logprobs.js';

/** Token ids are 32-bit; whether they fit a model's vocabulary is checked where the model is known. */
const MAXIMUM_VOCABULARY = 2 ** 31;

/** Throws `INVALID_DATASET` unless token ids and log-probs of a message fit together; `where` names it. */
export function checkMessage({ tokenIds, topLogprobs }: Message, where: string): void {
  if (tokenIds?.some((token) => token < 0)) throw new CartridgesError('INVALID_DATASET', `${where}: a token id is negative`);
  if (!topLogprobs) return;
  checkSparseLogprobs(topLogprobs, MAXIMUM_VOCABULARY, where);
  if (tokenIds && tokenIds.length !== topLogprobs.rows) {
    throw new CartridgesError(
      'INVALID_DATASET',
      `${where}: ${tokenIds.length} tokens have ${topLogprobs.rows} rows of log-probs`,
    );
  }
}
