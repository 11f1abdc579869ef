import { formatBytes } from '../../core/format-bytes.js';
import { RequestError } from '../request-error.js';

/** The bytes that each scope takes on disk. */
export class ScopeBytes {
  readonly #limit: number;
  readonly #bytes = new Map<string, number>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Counts bytes before they are written. Throws 413 when the scope has no room for them. */
  take(scope: string, bytes: number): void {
    if (this.of(scope) + bytes > this.#limit) {
      throw new RequestError(413, `the files of this key may take ${formatBytes(this.#limit)}, and no more is free`, {
        hint: 'delete some files',
      });
    }
    this.add(scope, bytes);
  }

  /** Counts bytes that are there, or with a minus sign no more. */
  add(scope: string, bytes: number): void {
    const sum = this.of(scope) + bytes;
    if (sum === 0) this.#bytes.delete(scope);
    else this.#bytes.set(scope, sum);
  }

  of(scope: string): number {
    return this.#bytes.get(scope) ?? 0;
  }
}
