/** Equal for texts that differ only in case, white space, Unicode form or closing punctuation. */
export function normalizeText(text: string): string {
  const folded = text.normalize('NFKC').toLowerCase().replace(/\s+/g, ' ').trim();
  return folded.replace(/[\p{P}\s]+$/u, '');
}

/** Remembers which conversation had a question or an answer first, within a chunk or in the whole corpus. */
export class TextOwners {
  readonly #perChunk: boolean;
  readonly #owners = new Map<string, number>();

  constructor(scope: 'chunk' | 'corpus') {
    this.#perChunk = scope === 'chunk';
  }

  /** Whether no other conversation had this text; if so it belongs to `conversation` until it is released. */
  claim(chunkId: string, text: string, conversation: number): boolean {
    const key = this.#key(chunkId, text);
    const owner = this.#owners.get(key) ?? conversation;
    this.#owners.set(key, owner);
    return owner === conversation;
  }

  /** Makes the text new again if it belongs to `conversation`. */
  release(chunkId: string, text: string, conversation: number): void {
    const key = this.#key(chunkId, text);
    if (this.#owners.get(key) === conversation) this.#owners.delete(key);
  }

  #key(chunkId: string, text: string): string {
    const normalized = normalizeText(text);
    return this.#perChunk ? `${chunkId}\n${normalized}` : normalized;
  }
}
