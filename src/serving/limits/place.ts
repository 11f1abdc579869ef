/** Answers that a request asks for: prompts times choices. */
export interface AskedAnswers {
  count: number;
  /** The field of the request that makes them so many. */
  param: string;
}

/** What one request takes of the room of its key. */
export interface Place {
  /**
   * Takes room for the answers of the request, once they are known. Rejects with 400 for more than the key may ever have at a
   * time; where there is no room now, it waits, or rejects with 429.
   */
  hold(asked: AskedAnswers, signal: AbortSignal): Promise<void>;
  /** To be called when the answer is complete: gives everything back. */
  leave(): void;
}
