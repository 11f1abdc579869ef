/** Equal for questions that differ only in case, white space, Unicode form or closing punctuation. */
export function normalizeQuestion(question: string): string {
  const folded = question.normalize('NFKC').toLowerCase().replace(/\s+/g, ' ').trim();
  return folded.replace(/[\p{P}\s]+$/u, '');
}

/** Remembers which conversation asked a question first, within a chunk or in the whole corpus. */
export class QuestionLog {
  readonly #perChunk: boolean;
  readonly #owners = new Map<string, number>();

  constructor(scope: 'chunk' | 'corpus') {
    this.#perChunk = scope === 'chunk';
  }

  /** Whether no other conversation asked this; if so the question belongs to `conversation` until it is released. */
  claim(chunkId: string, question: string, conversation: number): boolean {
    const key = this.#key(chunkId, question);
    const owner = this.#owners.get(key) ?? conversation;
    this.#owners.set(key, owner);
    return owner === conversation;
  }

  /** Makes the question new again if it belongs to `conversation`. */
  release(chunkId: string, question: string, conversation: number): void {
    const key = this.#key(chunkId, question);
    if (this.#owners.get(key) === conversation) this.#owners.delete(key);
  }

  #key(chunkId: string, question: string): string {
    const normalized = normalizeQuestion(question);
    return this.#perChunk ? `${chunkId}\n${normalized}` : normalized;
  }
}
