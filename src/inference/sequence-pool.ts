import type { SequenceContext } from './sequence-context.js';

/** A sequence and the cells that are set aside for it alone. */
export interface Reservation {
  readonly sequence: number;
  cells: number;
}

/**
 * Hands out sequences and cells of one context. All cells that a sequence may ever need are set aside when it is taken, so
 * that the cache cannot overflow later. The lowest free sequence goes first, so that ids follow from the order of requests.
 */
export class SequencePool {
  readonly #context: SequenceContext;
  readonly #taken: boolean[];
  #freeCells: number;
  #freeSequences: number;
  #peakCells = 0;

  constructor(context: SequenceContext, sequences: number) {
    this.#context = context;
    this.#taken = new Array(sequences).fill(false);
    this.#freeSequences = sequences;
    this.#freeCells = context.cells;
  }

  get freeCells(): number {
    return this.#freeCells;
  }

  /** The most cells that were set aside at one time. */
  get peakCells(): number {
    return this.#peakCells;
  }

  hasRoom(cells: number, sequences: number): boolean {
    return this.#freeCells >= cells && this.#freeSequences >= sequences;
  }

  /** Ask {@link hasRoom} first. */
  take(cells: number): Reservation {
    const sequence = this.#taken.indexOf(false);
    this.#taken[sequence] = true;
    this.#freeSequences--;
    this.#setAside(cells);
    return { sequence, cells };
  }

  /** Removes the sequence's rows; cells that it shared stay with the others. */
  give({ sequence, cells }: Reservation): void {
    this.#context.remove(sequence);
    this.#taken[sequence] = false;
    this.#freeSequences++;
    this.#freeCells += cells;
  }

  /** Sets cells aside for a while; false when so many are not free. */
  takeCells(cells: number): boolean {
    if (cells > this.#freeCells) return false;
    this.#setAside(cells);
    return true;
  }

  /** Gives cells back that no sequence lies in any more, or that were never used. */
  giveCells(cells: number): void {
    this.#freeCells += cells;
  }
  #setAside(cells: number): void {
    this.#freeCells -= cells;
    this.#peakCells = Math.max(this.#peakCells, this.#context.cells - this.#freeCells);
  }
}
