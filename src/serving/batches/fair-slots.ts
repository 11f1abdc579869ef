import { throwIfAborted } from '../../core/errors.js';

/** Bounds how much runs at the same time; of those who wait, scopes take turns, and within a scope the first comes first. */
export class FairSlots {
  #free: number;
  /** In the order of their turns. */
  readonly #waiting = new Map<string, (() => void)[]>();

  constructor(count: number) {
    this.#free = count;
  }

  /** Resolves when a slot is free, with the function that gives it back. Rejects with `CANCELLED`. */
  async take(scope: string, signal: AbortSignal): Promise<() => void> {
    throwIfAborted(signal);
    if (this.#free > 0) this.#free--;
    else await this.#wait(scope, signal);
    return () => this.#release();
  }

  async #wait(scope: string, signal: AbortSignal): Promise<void> {
    let leave = () => {};
    let isServed = false;
    await new Promise<void>((resolve) => {
      const serve = () => {
        isServed = true;
        resolve();
      };
      leave = () => {
        this.#remove(scope, serve);
        resolve();
      };
      signal.addEventListener('abort', leave);
      this.#waiting.set(scope, [...(this.#waiting.get(scope) ?? []), serve]);
    });
    signal.removeEventListener('abort', leave);
    if (signal.aborted && isServed) this.#release();
    throwIfAborted(signal);
  }

  #release(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#free++;
      return;
    }
    const [scope, [serve, ...others]] = next as [string, [() => void, ...(() => void)[]]];
    this.#waiting.delete(scope);
    if (others.length > 0) this.#waiting.set(scope, others);
    serve();
  }

  #remove(scope: string, serve: () => void): void {
    const others = (this.#waiting.get(scope) ?? []).filter((other) => other !== serve);
    if (others.length > 0) this.#waiting.set(scope, others);
    else this.#waiting.delete(scope);
  }
}
