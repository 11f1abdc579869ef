/** Hands values from a producer that does not wait to one consumer that does, once. */
export class TokenQueue<T> implements AsyncIterableIterator<T, void, undefined> {
  readonly #onLeft: () => void;
  readonly #values: T[] = [];
  /** Of calls of the consumer that wait for a value. */
  readonly #waiting: ((result: IteratorResult<T, void> | Promise<never>) => void)[] = [];
  #ended = false;
  #error: unknown;

  /** `onLeft` is called when the consumer leaves before the end, even before it has taken a value. */
  constructor(onLeft = () => {}) {
    this.#onLeft = onLeft;
  }

  /** Values that the consumer has not taken yet. */
  get size(): number {
    return this.#values.length;
  }

  push(value: T): void {
    if (this.#ended) return;
    const resolve = this.#waiting.shift();
    if (resolve) resolve({ done: false, value });
    else this.#values.push(value);
  }

  /** Values that are there already, at most so many; none when the next one has to be waited for. */
  take(most: number): T[] {
    return this.#values.splice(0, most);
  }

  /** No further value comes; with an error, the consumer throws it behind the values there are. */
  end(error?: unknown): void {
    if (this.#ended) return;
    this.#ended = true;
    this.#error = error;
    for (const resolve of this.#waiting.splice(0)) resolve(this.#last());
  }

  next(): Promise<IteratorResult<T, void>> {
    if (this.#values.length > 0) return Promise.resolve({ done: false, value: this.#values.shift() as T });
    if (this.#ended) return Promise.resolve(this.#last());
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
    });
  }

  /** The consumer wants no more: what it has not taken is dropped. */
  async return(): Promise<IteratorResult<T, void>> {
    this.#leave();
    return { done: true, value: undefined };
  }

  async throw(error: unknown): Promise<IteratorResult<T, void>> {
    this.#leave();
    throw error;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #leave(): void {
    const isEarly = !this.#ended;
    this.end();
    this.#error = undefined;
    this.#values.length = 0;
    if (isEarly) this.#onLeft();
  }

  /** An error is thrown once; behind it is the end. */
  #last(): IteratorResult<T, void> | Promise<never> {
    const error = this.#error;
    this.#error = undefined;
    return error === undefined ? { done: true, value: undefined } : Promise.reject(error);
  }
}
