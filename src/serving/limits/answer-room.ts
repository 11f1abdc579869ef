import { CartridgesError, throwIfAborted } from '../../core/errors.js';
import { RequestError } from '../request-error.js';
import type { AskedAnswers } from './place.js';

/** Gives room back. */
export type Release = () => void;

interface Waiting {
  count: number;
  serve(release: Release): void;
}

/** Counts the answers of every scope that are under way. A request gets room for all that it asks for, or none. */
export class AnswerRoom {
  readonly #mostOf: (scope: string) => number;
  readonly #taken = new Map<string, number>();
  /** The first comes first, so that a large request is not passed by small ones for ever. */
  readonly #waiting = new Map<string, Waiting[]>();

  constructor(mostOf: (scope: string) => number) {
    this.#mostOf = mostOf;
  }

  /** Answers of a scope that are under way. */
  taken(scope: string): number {
    return this.#taken.get(scope) ?? 0;
  }

  /** Takes room, if there is some now. Throws 400 for more than the scope may have at a time. */
  take(scope: string, asked: AskedAnswers): Release | undefined {
    this.#checkSize(scope, asked);
    return this.#fits(scope, asked.count) ? this.#add(scope, asked.count) : undefined;
  }

  /** Resolves when there is room, which is taken then. Rejects with 400 as {@link take} does, and with `CANCELLED`. */
  async whenFree(scope: string, asked: AskedAnswers, signal: AbortSignal): Promise<Release> {
    this.#checkSize(scope, asked);
    throwIfAborted(signal);
    let leave = () => {};
    const release = await new Promise<Release | undefined>((resolve) => {
      const waiting = { count: asked.count, serve: resolve };
      leave = () => {
        this.#remove(scope, waiting);
        resolve(undefined);
      };
      signal.addEventListener('abort', leave);
      this.#waiting.set(scope, [...(this.#waiting.get(scope) ?? []), waiting]);
      this.#serve(scope);
    });
    signal.removeEventListener('abort', leave);
    if (release) return release;
    throw new CartridgesError('CANCELLED', 'cancelled', { cause: signal.reason });
  }

  #checkSize(scope: string, { count, param }: AskedAnswers): void {
    const most = this.#mostOf(scope);
    if (count <= most) return;
    throw new RequestError(400, `the request asks for ${count} answers, and the key may have ${most} at a time`, { param });
  }

  /** A limit that was lowered meanwhile keeps nobody waiting for ever. */
  #fits(scope: string, count: number): boolean {
    const taken = this.taken(scope);
    return taken === 0 || taken + count <= this.#mostOf(scope);
  }

  #add(scope: string, count: number): Release {
    this.#taken.set(scope, this.taken(scope) + count);
    return () => {
      const left = this.taken(scope) - count;
      if (left === 0) this.#taken.delete(scope);
      else this.#taken.set(scope, left);
      this.#serve(scope);
    };
  }

  #serve(scope: string): void {
    const line = this.#waiting.get(scope) ?? [];
    while (line[0] && this.#fits(scope, line[0].count)) {
      const { count, serve } = line.shift()!;
      serve(this.#add(scope, count));
    }
    if (line.length === 0) this.#waiting.delete(scope);
  }

  /** Those behind a request that is gone may fit. */
  #remove(scope: string, waiting: Waiting): void {
    const others = (this.#waiting.get(scope) ?? []).filter((other) => other !== waiting);
    this.#waiting.set(scope, others);
    this.#serve(scope);
  }
}
