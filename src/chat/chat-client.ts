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
}

export interface ChatRequest {
  messages: readonly Message[];
  maxTokens: number;
  sampling: Sampling;
  stop?: readonly string[];
  /** Ask for this many top log-probs of every answered token, cut at `minProbabilityMass`. */
  topLogprobs?: number;
  minProbabilityMass?: number;
}

export interface Usage {
  promptTokens: number;
  completionTokens: number;
  /** Prompt tokens whose keys and values were shared with another request. */
  cachedPromptTokens: number;
}

export interface ChatResponse {
  text: string;
  finishReason: 'stop' | 'length';
  /** Generated tokens, the end-of-turn token included when it was generated. */
  tokenIds?: Int32Array;
  topLogprobs?: SparseLogprobs;
  usage: Usage;
}

/**
 * Whoever answers chats: the local engine, or a server. Callers may run many requests at once; the client bounds them.
 * Requests of one tick that are awaited together form one batch, in the order of the calls.
 */
export interface ChatClient {
  readonly capabilities: { topLogprobs: number; tokenIds: boolean; cartridges: boolean };
  chat(request: ChatRequest, signal?: AbortSignal): Promise<ChatResponse>;
}
