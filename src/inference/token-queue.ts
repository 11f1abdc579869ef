/** Hands values from a producer that does not wait to one consumer that does, once. */
export class TokenQueue<T> implements AsyncIterableIterator<T, void, undefined> {
  readonly #values: T[] = [];
  /** Of the consumer, while it waits. */
  #resolve: ((result: IteratorResult<T, void> | Promise<never>) => void) | undefined;
  #ended = false;
  #error: unknown;

  /** Values that the consumer has not taken yet. */
  get size(): number {
    return this.#values.length;
  }

  push(value: T): void {
    if (this.#resolve) this.#answer({ done: false, value });
    else this.#values.push(value);
  }

  /** No further value comes; with an error, the consumer throws it behind the values there are. */
  end(error?: unknown): void {
    this.#ended = true;
    this.#error = error;
    if (this.#resolve) this.#answer(this.#last());
  }

  next(): Promise<IteratorResult<T, void>> {
    if (this.#values.length > 0) return Promise.resolve({ done: false, value: this.#values.shift() as T });
    if (this.#ended) return Promise.resolve(this.#last());
    return new Promise((resolve) => {
      this.#resolve = resolve;
    });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #answer(result: IteratorResult<T, void> | Promise<never>): void {
    this.#resolve?.(result);
    this.#resolve = undefined;
  }

  #last(): IteratorResult<T, void> | Promise<never> {
    return this.#error === undefined ? { done: true, value: undefined } : Promise.reject(this.#error);
  }
}
