import type { SparseLogprobs } from './sparse-logprobs.js';

export type Role = 'system' | 'user' | 'assistant';

/** One turn of a conversation. `tokenIds` are the tokens that a model produced or read for `content`, when they are known. */
export interface Message {
  role: Role;
  content: string;
  tokenIds?: Int32Array;
  topLogprobs?: SparseLogprobs;
}
