const NEXT = 0;
const FINISHED = 1;
const WORDS = 2;

/** Rows that belong together: `count` of them, from one number on. */
export interface RowRange {
  start: number;
  count: number;
}

/**
 * Hands out rows to several threads, one by one, each to one of them. It lies in shared memory. Rows are numbered through, from one
 * range to the next, in 32 bits that may overflow: a thread that comes late to a range finds nothing left in it.
 */
export class RowClaims {
  readonly shared: SharedArrayBuffer;
  readonly #words: Int32Array;

  /** New, or those that another thread made. */
  constructor(shared = new SharedArrayBuffer(WORDS * Int32Array.BYTES_PER_ELEMENT)) {
    this.shared = shared;
    this.#words = new Int32Array(shared);
  }

  /** The next `count` rows. All of the range before must have been claimed. */
  open(count: number): RowRange {
    return { start: Atomics.load(this.#words, NEXT), count };
  }

  /** A row that nobody else has, counted from the range's start; undefined where none is left. */
  claim({ start, count }: RowRange): number | undefined {
    for (;;) {
      const next = Atomics.load(this.#words, NEXT);
      const index = (next - start) | 0;
      if (index < 0 || index >= count) return undefined;
      if (Atomics.compareExchange(this.#words, NEXT, next, (next + 1) | 0) === next) return index;
    }
  }

  /** Says that so many claimed rows are done. */
  finish(rows: number): void {
    Atomics.add(this.#words, FINISHED, rows);
    Atomics.notify(this.#words, FINISHED);
  }

  /** Blocks the thread until all rows of the range are done; false when that takes longer than `milliseconds`. */
  waitFor({ start, count }: RowRange, milliseconds: number): boolean {
    const end = (start + count) | 0;
    const deadline = performance.now() + milliseconds;
    for (;;) {
      const finished = Atomics.load(this.#words, FINISHED);
      if (finished === end) return true;
      const left = deadline - performance.now();
      if (left <= 0) return false;
      Atomics.wait(this.#words, FINISHED, finished, left);
    }
  }
}
