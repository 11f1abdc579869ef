import type { ChatPiece, Sampling } from '../chat/chat-client.js';
import type { Message } from '../core/message.js';

/** What stands before the turns of a conversation. */
export type ChatContext = { kind: 'cartridge'; name: string } | { kind: 'text'; text: string } | { kind: 'none' };

export interface AnswerRequest {
  context: ChatContext;
  messages: readonly Message[];
  maxTokens: number;
  sampling: Sampling;
}

/** Whoever answers a conversation: the engine in this process, or a server. */
export interface ChatBackend {
  /** The names of the cartridges that it knows. */
  cartridges(signal?: AbortSignal): Promise<readonly string[]>;
  /** Makes a cartridge ready, and gives the name that a context has it under. Rejects when it cannot be used. */
  prepare(name: string, signal?: AbortSignal): Promise<string>;
  /** The next message as it comes. Throws `CONTEXT_OVERFLOW` when the chat is too long; leaving the loop ends the answer. */
  answer(request: AnswerRequest, signal?: AbortSignal): AsyncIterable<ChatPiece>;
  dispose(): Promise<void>;
}
