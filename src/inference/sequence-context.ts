/**
 * What the scheduler needs of a libllama context with one cache for all sequences. Rows are collected with {@link addRow} and
 * computed together by {@link decode}; nothing else may be called while that runs.
 */
export interface SequenceContext {
  /** Cells of the cache: one holds a token's keys and values, for one or more sequences. */
  readonly cells: number;
  /** Most rows of one decode, and most of them that may ask for logits. */
  readonly batchRows: number;
  readonly logitsRows: number;
  addRow(token: number, position: number, sequence: number, wantsLogits: boolean): void;
  /** Computes the collected rows. Rejects with `ENGINE_FAILURE`; some of the rows may be in the cache then. */
  decode(): Promise<void>;
  /** Logits behind row `row` of the last decode, a view that the next decode overwrites. */
  logits(row: number): Float32Array;
  /** Gives `to` the cells of `from` at positions below `end`, without copying. */
  share(from: number, to: number, end: number): void;
  remove(sequence: number): void;
  /** Fills an empty sequence from a state blob. Rejects with `ENGINE_FAILURE` when the engine does not take it. */
  load(sequence: number, blob: Uint8Array): Promise<void>;
  /** Empties the whole cache, so that the next rows go where they would in a new one. */
  clear(): void;
}
