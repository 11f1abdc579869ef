import type { Message } from '../core/message.js';
import type { SparseLogprobs } from '../core/sparse-logprobs.js';

export interface Sampling {
  /** 0 is greedy. */
  temperature: number;
  /** Keep the k most probable tokens; 0 keeps all. */
  topK?: number;
  /** Keep the most probable tokens up to this mass; 1 keeps all. */
  topP?: number;
  /** Drop tokens less probable than this share of the most probable one; 0 keeps all. */
  minP?: number;
  /** Required for a temperature above 0, so that a run can be repeated. */
  seed?: number;
  /** Added to the logits of these token ids, before everything else. −100 and 100 in effect forbid and force a token. */
  logitBias?: ReadonlyMap<number, number>;
  /** Taken from a token's logit once for each time that it was generated already; from −2 to 2. */
  frequencyPenalty?: number;
  /** Taken from a token's logit once it was generated; from −2 to 2. */
  presencePenalty?: number;
}

export interface ChatRequest {
  messages: readonly Message[];
  maxTokens: number;
  sampling: Sampling;
  stop?: readonly string[];
  /** Ask for this many top log-probs of every answered token, cut at `minProbabilityMass`. */
  topLogprobs?: number;
  minProbabilityMass?: number;
  /** End an answer, as at its limit, once it does nothing any more but repeat itself; a client that cannot lets it go on. */
  endRepetition?: boolean;
}

export interface Usage {
  promptTokens: number;
  completionTokens: number;
  /** Prompt tokens whose keys and values another request had computed. */
  cachedPromptTokens: number;
  /** Rows of cartridges before the prompt, where the client knows them. */
  cartridgeTokens?: number;
}

export interface ChatResponse {
  text: string;
  finishReason: 'stop' | 'length';
  /** Generated tokens, the end-of-turn token included when it was generated. */
  tokenIds?: Int32Array;
  topLogprobs?: SparseLogprobs;
  usage: Usage;
}

/** A part of an answer that comes bit by bit. */
export interface ChatPiece {
  text: string;
  /** The token that brought the text, where the client knows it. */
  tokenId?: number;
  /** On the last piece with text, or behind it. */
  finishReason?: 'stop' | 'length';
  /** Once, at the end, where the client knows it. */
  usage?: Usage;
}

/**
 * Whoever answers chats: the local engine, or a server. Callers may run many requests at once; the client bounds them.
 * Requests of one tick that are awaited together form one batch, in the order of the calls.
 */
export interface ChatClient {
  readonly capabilities: { topLogprobs: number; tokenIds: boolean; cartridges: boolean };
  chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatResponse>;
  /**
   * Runs requests of several ticks that begin alike: what they have in common is not computed again until `run` is over. A client
   * that keeps such things by itself, or not at all, has none.
   */
  together?<T>(run: () => Promise<T>): Promise<T>;
  /** The same answer as it comes, without log-probs; leaving the loop ends the request. */
  stream?(request: ChatRequest, signal?: AbortSignal): AsyncIterable<ChatPiece>;
}
