import type { Sampling } from '../chat/chat-client.js';

/**
 * What a request adds to logits: a bias of its own, and penalties for tokens that it has generated, as OpenAI defines them:
 * `bias − count · frequency − (count > 0) · presence`. Changes the logits in place and back again, which costs nothing for all the
 * other tokens.
 */
export class LogitChanges {
  readonly #bias: ReadonlyMap<number, number>;
  readonly #frequencyPenalty: number;
  readonly #presencePenalty: number;
  /** How often each token was generated. */
  readonly #counts = new Map<number, number>();
  readonly #changed: number[] = [];
  readonly #originals: number[] = [];

  /** Undefined when the request changes nothing. */
  static of(sampling: Sampling): LogitChanges | undefined {
    const { logitBias, frequencyPenalty = 0, presencePenalty = 0 } = sampling;
    if (!logitBias?.size && frequencyPenalty === 0 && presencePenalty === 0) return undefined;
    return new LogitChanges(logitBias ?? new Map(), frequencyPenalty, presencePenalty);
  }

  private constructor(bias: ReadonlyMap<number, number>, frequencyPenalty: number, presencePenalty: number) {
    this.#bias = bias;
    this.#frequencyPenalty = frequencyPenalty;
    this.#presencePenalty = presencePenalty;
  }

  count(token: number): void {
    if (this.#frequencyPenalty === 0 && this.#presencePenalty === 0) return;
    this.#counts.set(token, (this.#counts.get(token) ?? 0) + 1);
  }

  apply(logits: Float32Array): void {
    for (const [token, bias] of this.#bias) this.#add(logits, token, bias);
    for (const [token, count] of this.#counts) {
      this.#add(logits, token, -count * this.#frequencyPenalty - this.#presencePenalty);
    }
  }

  /** Puts the logits back that {@link apply} changed, the last change first. */
  undo(logits: Float32Array): void {
    while (this.#changed.length > 0) logits[this.#changed.pop() as number] = this.#originals.pop() as number;
  }

  #add(logits: Float32Array, token: number, change: number): void {
    this.#changed.push(token);
    this.#originals.push(logits[token] as number);
    logits[token] = (logits[token] as number) + change;
  }
}
