import type { NativeBytes } from '../native/native-bytes.js';
import type { RowRule } from './decoding/decode-requests.js';
import type { TokenChoice } from './token-choice.js';

export interface DecodeOutcome {
  /** Time of the decode alone. */
  milliseconds: number;
  /** What was chosen behind the rows that had a rule, in the order of the rules; undefined where logits are not finite. */
  choices: readonly (TokenChoice | undefined)[];
}

/**
 * What the scheduler needs of a libllama context with one cache for all sequences. Rows are collected with {@link addRow} and
 * computed together by {@link decode}; while that runs nothing may be called but {@link decodeChosen}, once, and what says so.
 * Positions count from 0, an end is the position behind the last one.
 */
export interface SequenceContext {
  /** Cells of the cache: one holds a token's keys and values, for one or more sequences. */
  readonly cells: number;
  /** Most rows of one decode, and most of them that may ask for logits. */
  readonly batchRows: number;
  readonly logitsRows: number;
  addRow(token: number, position: number, sequence: number, wantsLogits: boolean): void;
  /**
   * Computes the collected rows, and chooses a token behind each row that has a rule. Rejects with `ENGINE_FAILURE`; some of the
   * rows may be in the cache then.
   */
  decode(rules?: readonly RowRule[]): Promise<DecodeOutcome>;
  /**
   * Computes the tokens that the last decode chooses, one position behind its rows, chooses behind these by the same rules, and
   * goes on with them: `most` decodes, one after the other. They may be asked for before that decode is over, whose rows must all have had a
   * rule. Resolves with those that were made: fewer, or none, when that one failed, when tokens ended their requests by their rules, or when
   * they were withdrawn. Rejects as {@link decode}.
   */
  decodeChosen(most: number): Promise<DecodeOutcome[]>;
  /** Nobody wants the decodes that have not begun. May be called at any time. */
  withdraw(): void;
  /** Logits behind row `row` of the last decode, a view that the next decode overwrites. */
  logits(row: number): Float32Array;
  /** Gives `to` the cells of `from` at positions from `start` to `end`, without copying. */
  share(from: number, to: number, end: number, start?: number): void;
  /** Takes a sequence out of its cells, of all by default; cells that no sequence is left in are free. */
  remove(sequence: number, start?: number, end?: number): void;
  /** Fills an empty sequence from a state blob. Rejects with `ENGINE_FAILURE` when the engine does not take it. */
  load(sequence: number, blob: Uint8Array | NativeBytes): Promise<void>;
  /**
   * The state blob of a sequence: a copy of all its rows for {@link load}, to be disposed. Rejects with `ENGINE_FAILURE`, and for a sequence
   * beyond the `logitsRows` first: libllama labels the rows of none behind those.
   */
  save(sequence: number): Promise<NativeBytes>;
  /** Empties the whole cache, so that the next rows go where they would in a new one. */
  clear(): void;
  /**
   * Makes the context anew, empty, after a decode that failed. Rejects as making the first one did; may be called again then.
   * Until it succeeds there is nothing to {@link remove} or {@link clear}, and all else throws.
   */
  rebuild(): Promise<void>;
}
