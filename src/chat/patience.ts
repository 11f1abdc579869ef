import { CartridgesError } from '../core/errors.js';

/** Ends a request when its caller does, or when the other side has been silent for too long. */
export class Patience {
  readonly #controller = new AbortController();
  readonly #silenceMs: number;
  readonly #caller: AbortSignal | undefined;
  readonly #stop = () => this.#controller.abort();
  #exhausted = false;

  constructor(silenceMs: number, caller?: AbortSignal) {
    this.#silenceMs = silenceMs;
    this.#caller = caller;
    caller?.addEventListener('abort', this.#stop);
    if (caller?.aborted) this.#stop();
  }

  /** For the request. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Waits for the other side; only this time counts, not what the caller needs between two pieces. */
  async during<T>(work: Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      this.#exhausted = true;
      this.#controller.abort();
    }, this.#silenceMs);
    try {
      return await work;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Why the request was ended, if it was: `CANCELLED` or `SERVER_FAILED`. */
  reason(server: string): CartridgesError | undefined {
    if (this.#caller?.aborted) return new CartridgesError('CANCELLED', 'cancelled', { cause: this.#caller.reason });
    if (!this.#exhausted) return undefined;
    return new CartridgesError('SERVER_FAILED', `${server} sent nothing for ${this.#silenceMs / 1000} s`, {
      hint: 'check that it runs and is not overloaded',
    });
  }

  /** Ends the request, whatever is left of it. */
  end(): void {
    this.#caller?.removeEventListener('abort', this.#stop);
    this.#controller.abort();
  }
}
