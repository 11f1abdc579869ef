/**
 * Calls back when a signal aborts. Many requests may come with one signal, and Node warns of more than ten listeners on it: each
 * signal has one here, as long as anybody watches it.
 */
export class AbortWatch {
  readonly #onAbort: () => void;
  readonly #watchers = new Map<AbortSignal, number>();

  constructor(onAbort: () => void) {
    this.#onAbort = onAbort;
  }

  /** Watches a signal until the returned function is called, which may be more than once. */
  watch(signal: AbortSignal | undefined): () => void {
    if (!signal) return () => {};
    const count = this.#watchers.get(signal) ?? 0;
    if (count === 0) signal.addEventListener('abort', this.#onAbort);
    this.#watchers.set(signal, count + 1);
    let isWatching = true;
    return () => {
      if (isWatching) this.#leave(signal);
      isWatching = false;
    };
  }

  #leave(signal: AbortSignal): void {
    const count = this.#watchers.get(signal)! - 1;
    if (count > 0) {
      this.#watchers.set(signal, count);
      return;
    }
    this.#watchers.delete(signal);
    signal.removeEventListener('abort', this.#onAbort);
  }
}
