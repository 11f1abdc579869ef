import { CartridgesError, throwIfAborted } from '../core/errors.js';

/** Bounds how many requests run at the same time; the others wait in order. */
export class RequestSlots {
  #free: number;
  readonly #waiting: (() => void)[] = [];

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves when a slot is free, with the function that gives it back. Rejects with `CANCELLED`. */
  async take(signal?: AbortSignal): Promise<() => void> {
    throwIfAborted(signal);
    if (this.#free > 0) this.#free--;
    else await this.#wait(signal);
    return () => this.#release();
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    return new Promise((resolve, reject) => {
      const enter = () => {
        signal?.removeEventListener('abort', leave);
        resolve();
      };
      const leave = () => {
        this.#waiting.splice(this.#waiting.indexOf(enter), 1);
        reject(new CartridgesError('CANCELLED', 'cancelled', { cause: signal?.reason }));
      };
      signal?.addEventListener('abort', leave, { once: true });
      this.#waiting.push(enter);
    });
  }

  /** A slot goes on to whoever waits longest. */
  #release(): void {
    const enter = this.#waiting.shift();
    if (enter) enter();
    else this.#free++;
  }
}
