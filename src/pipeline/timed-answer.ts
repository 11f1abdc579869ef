import type { ChatPiece, Usage } from '../chat/chat-client.js';

export interface TimedAnswer {
  text: string;
  /** What it cost, where the backend says so. */
  usage: Usage | undefined;
  /** From the question to the first text, as a user sees it. */
  timeToFirstTokenMs: number;
  totalMs: number;
}

/** Reads an answer to its end with a clock in hand. */
export async function timeAnswer(pieces: AsyncIterable<ChatPiece>): Promise<TimedAnswer> {
  const started = performance.now();
  let first: number | undefined;
  let text = '';
  let usage: Usage | undefined;
  for await (const piece of pieces) {
    if (first === undefined && (piece.text !== '' || piece.tokenId !== undefined)) first = performance.now();
    text += piece.text;
    usage = piece.usage ?? usage;
  }
  const ended = performance.now();
  return { text, usage, timeToFirstTokenMs: (first ?? ended) - started, totalMs: ended - started };
}
