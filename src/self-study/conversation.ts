import type { Message } from '../core/message.js';

/** One self-study conversation: the turns without the system message, and what the teacher saw as system text. */
export interface Conversation {
  id: string;
  messages: Message[];
  systemPrompt: string;
  /** The seed-prompt kind that started it. */
  type: string;
  metadata: { seedPrompt: string; chunkId?: string; [key: string]: unknown };
}
