import type { RowRule } from '../../src/inference/decoding/decode-requests.js';
import type { DecodeOutcome, SequenceContext } from '../../src/inference/sequence-context.js';
import type { RuledTokens } from '../../src/inference/sequence-work.js';
import { NativeBytes } from '../../src/native/native-bytes.js';
import { integersAt } from '../../src/tensor/native-memory.js';

interface Row {
  token: number;
  position: number;
  sequence: number;
  wantsLogits: boolean;
}

interface Cell {
  token: number;
  position: number;
  sequences: Set<number>;
}

/** Words of a saved row: its token and its position. */
const SAVED_WORDS = 2;

class HeldCopy extends NativeBytes {
  readonly #held: Set<NativeBytes>;

  constructor(byteLength: number, held: Set<NativeBytes>) {
    super(byteLength);
    this.#held = held;
    held.add(this);
  }

  override dispose(): void {
    this.#held.delete(this);
    super.dispose();
  }
}

/**
 * A cache in TypeScript that is as strict as libllama, or stricter: no overflow, positions without gaps, no call during a
 * decode. The logits behind a row are a hash of all that the row attends to, so that a wrong share shows.
 */
export class StrictContext implements SequenceContext {
  readonly cells: number;
  readonly batchRows: number;
  readonly logitsRows: number;
  readonly batches: string[] = [];
  /** Numbers of the decodes that fail, from 1 on. */
  readonly failures = new Set<number>();
  /** What every decode says that it took. */
  decodeMs = 60;
  /** So many of the next rebuilds fail. */
  failingRebuilds = 0;
  rebuilds = 0;
  /** What libllama would have refused, or died of. */
  readonly violations: string[] = [];
  /** One of so many copies of rows out of the cache and back fails. */
  copiesForOneFailure = Number.POSITIVE_INFINITY;
  /** Of rows out of the cache and back, and how many of these failed. */
  readonly copies = { out: 0, back: 0, failed: 0 };
  /** Copies that are not disposed. */
  readonly heldCopies = new Set<NativeBytes>();
  cache: Cell[] = [];
  /** Decodes of chosen tokens that were made, and those that were withdrawn. */
  readonly ahead = { made: 0, withdrawn: 0 };
  #rows: Row[] = [];
  #logits: (Float32Array | undefined)[] = [];
  /** The rows of the last decode, and how tokens were chosen behind them; none when it failed. */
  #chosen: { rows: Row[]; rules: readonly RowRule[] } | undefined;
  #last: Promise<unknown> = Promise.resolve();
  /** Decodes that are asked for. */
  #underWay = 0;
  #isWithdrawn = false;
  /** False between a rebuild that failed and the next one. */
  #isThere = true;

  constructor(cells: number, batchRows: number, logitsRows: number) {
    this.cells = cells;
    this.batchRows = batchRows;
    this.logitsRows = logitsRows;
  }

  addRow(token: number, position: number, sequence: number, wantsLogits: boolean): void {
    this.#assertUsable();
    this.#rows.push({ token, position, sequence, wantsLogits });
  }

  decode(rules: readonly RowRule[] = []): Promise<DecodeOutcome> {
    this.#assertUsable();
    const rows = this.#rows.splice(0);
    this.#require(rows.length > 0, 'an empty batch');
    this.#require(rows.length <= this.batchRows, 'a batch with too many rows');
    this.#require(rows.filter((row) => row.wantsLogits).length <= this.logitsRows, 'too many rows with logits');
    this.#require(
      rules.every(({ row }) => rows[row]?.wantsLogits),
      'a token from a row without logits',
    );
    this.#isWithdrawn = false;
    return this.#inTurn(async () => this.#decodeRows(rows, rules));
  }

  decodeChosen(most: number): Promise<DecodeOutcome[]> {
    this.#require(most > 0, 'no decode that is asked for');
    this.#require(this.#underWay <= 1, 'decodes ahead of others that are ahead');
    return this.#inTurn(async () => {
      const outcomes: DecodeOutcome[] = [];
      while (outcomes.length < most) {
        const chosen = this.#chosen;
        if (!chosen || this.#isWithdrawn) {
          this.ahead.withdrawn += most - outcomes.length;
          break;
        }
        this.ahead.made++;
        this.#require(chosen.rules.length === chosen.rows.length, 'a decode behind rows without a rule');
        const tokens = chosen.rows.map((row) => hash(this.#attended(row.sequence)));
        const rows = chosen.rows.map((row, index) => ({ ...row, token: tokens[index]!, position: row.position + 1 }));
        outcomes.push(await this.#decodeRows(rows, chosen.rules));
      }
      return outcomes;
    });
  }

  withdraw(): void {
    this.#isWithdrawn = true;
  }

  /** Decodes are made in the order in which they are asked for. */
  #inTurn<T>(decode: () => Promise<T>): Promise<T> {
    this.#underWay++;
    const outcome = this.#last.then(decode).finally(() => {
      this.#underWay--;
    });
    this.#last = outcome.catch(() => undefined);
    return outcome;
  }

  async #decodeRows(rows: Row[], rules: readonly RowRule[]): Promise<DecodeOutcome> {
    this.#chosen = undefined;
    this.batches.push(rows.map((row) => `${row.sequence}:${row.position}:${row.token}`).join(' '));
    const number = this.batches.length;
    await new Promise((resolve) => setImmediate(resolve));
    if (this.failures.has(number)) {
      // As libllama after an error: some of the rows are there.
      for (const row of rows.slice(0, rows.length >> 1)) this.#store({ ...row, sequences: new Set([row.sequence]) });
      throw new Error('the decode failed');
    }
    this.#logits = rows.map((row) => {
      this.#require(row.position === this.#attended(row.sequence).length, 'a gap in a sequence');
      this.#store({ token: row.token, position: row.position, sequences: new Set([row.sequence]) });
      return row.wantsLogits ? Float32Array.of(hash(this.#attended(row.sequence))) : undefined;
    });
    this.#chosen = { rows, rules };
    return { milliseconds: this.decodeMs, choices: rules.map(({ row }) => ({ token: this.#logits[row]![0]! })) };
  }

  logits(row: number): Float32Array {
    this.#assertUsable();
    const logits = this.#logits[row];
    if (!logits) throw new Error(`row ${row} did not ask for logits`);
    return logits;
  }

  share(from: number, to: number, end: number, start = 0): void {
    this.#assertUsable();
    for (const cell of this.cache) {
      if (cell.sequences.has(from) && cell.position >= start && cell.position < end) cell.sequences.add(to);
    }
  }

  remove(sequence: number, start = 0, end = Number.POSITIVE_INFINITY): void {
    this.#assertQuiet();
    for (const cell of this.cache) if (cell.position >= start && cell.position < end) cell.sequences.delete(sequence);
    this.cache = this.cache.filter((cell) => cell.sequences.size > 0);
  }

  async rebuild(): Promise<void> {
    this.clear();
    this.#rows = [];
    this.#logits = [];
    this.rebuilds++;
    this.#isThere = this.failingRebuilds === 0;
    if (this.#isThere) return;
    this.failingRebuilds--;
    throw new Error('there is no memory for a context');
  }

  async save(sequence: number): Promise<NativeBytes> {
    this.#assertUsable();
    this.#require(sequence < this.logitsRows, 'a copy of a sequence that libllama does not label');
    const rows = this.cache.filter((cell) => cell.sequences.has(sequence));
    this.copies.out++;
    await this.#finishCopy();
    const words = rows.flatMap(({ token, position }) => [token, position]);
    const copy = new HeldCopy(words.length * Int32Array.BYTES_PER_ELEMENT, this.heldCopies);
    integersAt(copy.address, words.length).set(words);
    return copy;
  }

  async load(sequence: number, blob: Uint8Array | NativeBytes): Promise<void> {
    this.#assertUsable();
    if (blob instanceof NativeBytes) return this.#loadSaved(sequence, blob);
    const [firstPosition, token, count] = blob as unknown as [number, number, number];
    if (token === 255) throw new Error('the blob was refused');
    for (let row = 0; row < count; row++) {
      this.#store({ token: 1000 + token * 50 + row, position: firstPosition + row, sequences: new Set([sequence]) });
    }
  }

  clear(): void {
    this.#assertQuiet();
    this.cache = [];
  }

  async #loadSaved(sequence: number, copy: NativeBytes): Promise<void> {
    this.copies.back++;
    await this.#finishCopy();
    const words = integersAt(copy.address, copy.byteLength / Int32Array.BYTES_PER_ELEMENT);
    for (let word = 0; word < words.length; word += SAVED_WORDS) {
      this.#store({ token: words[word]!, position: words[word + 1]!, sequences: new Set([sequence]) });
    }
  }

  async #finishCopy(): Promise<void> {
    await new Promise((resolve) => setImmediate(resolve));
    if ((this.copies.out + this.copies.back) % this.copiesForOneFailure !== 0) return;
    this.copies.failed++;
    throw new Error('the copy failed');
  }

  #store(cell: Cell): void {
    this.cache.push(cell);
    this.#require(this.cache.length <= this.cells, 'more cells than there are');
  }

  #attended(sequence: number): number[] {
    const cells = this.cache.filter((cell) => cell.sequences.has(sequence));
    return cells.sort((a, b) => a.position - b.position).map((cell) => cell.token);
  }

  #assertUsable(): void {
    this.#assertQuiet();
    if (!this.#isThere) throw new Error('the engine has no context');
  }

  #assertQuiet(): void {
    this.#require(this.#underWay === 0, 'a call during a decode');
  }

  #require(condition: boolean, violation: string): void {
    if (!condition) this.violations.push(violation);
  }
}

/** Has tokens of a work chosen by the context. */
export function ruledBy(consume: (logits: Float32Array) => number): RuledTokens {
  return {
    rule: { sampling: { temperature: 0 }, random: [1, 2, 3, 4], topLogprobs: undefined },
    stopsAtEnd: true,
    take: (choice) => consume(Float32Array.of(choice!.token)),
  };
}

/** Mixes well: one that is appended to its own tokens must go on depending on all of them. */
export function hash(tokens: readonly number[]): number {
  return tokens.reduce((sum, token) => (Math.imul(sum ^ (sum >>> 5), 0x9e35) + token) & 0xffff, 7);
}
