import type { MessagePort } from 'node:worker_threads';
import type { GgmlThreadpool, LlamaContext, LlamaVocabulary } from '../../native/handles.js';
import type { LlamaBatch, ThreadpoolParams } from '../../native/structs.js';
import type { ChoiceRule, TokenChoice } from '../token-choice.js';

/** What the decode thread is started with: libraries that the main thread has loaded and checked. */
export interface DecodeStart {
  libraries: { base: string; ggml: string; llama: string };
}

/** How the token behind a row of a batch is chosen. */
export interface RowRule {
  row: number;
  rule: ChoiceRule;
  /** A token that ends a turn is its request's last one. */
  stopsAtEnd: boolean;
}

/** What the thread knows of a context. */
export interface DecodedContext {
  context: LlamaContext;
  vocabulary: LlamaVocabulary;
  vocabularySize: number;
  /** One word of shared memory: a decode of chosen tokens that finds it set is not made. */
  withdrawal: Int32Array;
}

export interface Decoded {
  /** That of `llama_decode`. */
  status: number;
  /** In the decode itself. */
  milliseconds: number;
  /** One for each rule; undefined where the logits are not finite. */
  choices: (TokenChoice | undefined)[];
}

/** What the decode thread is asked for, and what it answers. */
export interface DecodeRequests {
  /** Starts the threads of a pool; `create` is the address of the function that does it. No pool when that failed. */
  startThreadpool: {
    request: { create: bigint; params: ThreadpoolParams };
    answer: { threadpool: GgmlThreadpool | null };
  };
  /** Threads that choose tokens together with this one, in place of those it had. */
  haveHelpers: { request: { ports: readonly MessagePort[]; claims: SharedArrayBuffer }; answer: object };
  /** Before the first decode of a context. */
  openContext: { request: DecodedContext; answer: object };
  /** Before it is freed. */
  closeContext: { request: { context: LlamaContext }; answer: object };
  /** Computes a batch, on a GPU to its end, and chooses a token behind each row that has a rule. */
  decode: { request: { context: LlamaContext; batch: LlamaBatch; rules: readonly RowRule[] }; answer: Decoded };
  /**
   * Computes the tokens that the last decode of this context chose, each in the row of its rule and one position on, chooses the
   * next ones, and goes on with these, `most` times. No further one behind a decode that failed, or once they are withdrawn; none when all
   * requests are over, and one when some are.
   */
  decodeChosen: { request: { context: LlamaContext; most: number }; answer: { decoded: Decoded[] } };
}
