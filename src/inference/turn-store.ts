import type { NativeBytes } from '../native/native-bytes.js';
import { commonLength } from './common-length.js';

/** Rows of a turn outside of the cache. */
export interface StoredTurn {
  readonly originKey: string;
  /** Keys of the cartridges before them. */
  readonly cartridgeKeys: readonly string[];
  /** Of all rows behind the cartridges up to its last one. */
  readonly tokens: Int32Array;
  /** The first of these whose row is in the copy; the rows before it have to come from elsewhere. */
  readonly start: number;
  /** A copy of the rows as {@link SequenceContext.save} makes it; the store disposes it. */
  readonly rows: NativeBytes;
}

/** Fewer rows are computed as fast as they are copied. */
const WORTH_COPYING_ROWS = 8;
/** So many rows are copied at most for each one that is of use. */
const COPIED_ROWS_PER_USED = 8;

/**
 * The rows of finished turns in the memory of the process, up to a number of bytes; those that were not used for longest go
 * first. A cache looks through all its cells at each decode, this costs nothing until a request goes on from a turn.
 */
export class TurnStore {
  readonly limitBytes: number;
  /** In the order of their last use: a Set keeps the order of insertion. */
  readonly #turns = new Set<StoredTurn>();
  readonly #byOrigin = new Map<string, Set<StoredTurn>>();
  #bytes = 0;
  #lost = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  /** Of all copies and their tokens. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Turns whose rows could not be copied. */
  get lost(): number {
    return this.#lost;
  }

  /** Whether the rows of `tokens` from `start` on are here already. They count as used then. */
  has(originKey: string, tokens: Int32Array, start: number): boolean {
    for (const turn of this.#byOrigin.get(originKey) ?? []) {
      if (turn.start > start || commonLength(turn.tokens, tokens) < tokens.length) continue;
      this.touch(turn);
      return true;
    }
    return false;
  }

  /** Takes a copy in, unless it is larger than everything may be, and drops those that it holds too. */
  add(turn: StoredTurn): void {
    if (bytesOf(turn) > this.limitBytes) {
      turn.rows.dispose();
      return;
    }
    for (const other of [...(this.#byOrigin.get(turn.originKey) ?? [])]) {
      const isHeld = other.start >= turn.start && commonLength(other.tokens, turn.tokens) === other.tokens.length;
      if (isHeld) this.#drop(other);
    }
    this.#turns.add(turn);
    this.#byOrigin.set(turn.originKey, (this.#byOrigin.get(turn.originKey) ?? new Set()).add(turn));
    this.#bytes += bytesOf(turn);
    for (const oldest of this.#turns) {
      if (this.#bytes <= this.limitBytes) break;
      this.#drop(oldest);
    }
  }

  /** The copy that goes on furthest with `tokens`, whose first `known` rows are there, and how far it goes. */
  find(originKey: string, tokens: Int32Array, known: number): { turn: StoredTurn; length: number } | undefined {
    let longest: { turn: StoredTurn; length: number } | undefined;
    for (const turn of this.#byOrigin.get(originKey) ?? []) {
      if (turn.start > known) continue;
      const length = commonLength(turn.tokens, tokens);
      if (isWorthCopying(turn, length, known) && length > (longest?.length ?? 0)) longest = { turn, length };
    }
    return longest;
  }

  /** How many of the first tokens have their rows here, where the first `known` are there. */
  reach(originKey: string, tokens: Int32Array, known: number): number {
    let length = known;
    for (;;) {
      const found = this.find(originKey, tokens, length);
      if (!found) return length;
      length = found.length;
    }
  }

  touch(turn: StoredTurn): void {
    if (this.#turns.delete(turn)) this.#turns.add(turn);
  }

  countLost(): void {
    this.#lost++;
  }

  /** Drops a copy that the engine does not take. */
  lose(turn: StoredTurn): void {
    this.#drop(turn);
    this.countLost();
  }

  clear(): void {
    for (const turn of [...this.#turns]) this.#drop(turn);
  }

  dropBehind(cartridgeKey: string): void {
    for (const turn of [...this.#turns]) if (turn.cartridgeKeys.includes(cartridgeKey)) this.#drop(turn);
  }

  #drop(turn: StoredTurn): void {
    this.#turns.delete(turn);
    this.#bytes -= bytesOf(turn);
    turn.rows.dispose();
    const ofOrigin = this.#byOrigin.get(turn.originKey);
    ofOrigin?.delete(turn);
    if (ofOrigin?.size === 0) this.#byOrigin.delete(turn.originKey);
  }
}

function isWorthCopying({ tokens, start }: StoredTurn, length: number, known: number): boolean {
  const used = length - known;
  // A short answer in the middle of a conversation: what follows it goes on from there.
  if (used > 0 && length === tokens.length) return true;
  return used >= WORTH_COPYING_ROWS && used * COPIED_ROWS_PER_USED >= tokens.length - start;
}

function bytesOf({ rows, tokens }: StoredTurn): number {
  return rows.byteLength + tokens.byteLength;
}
