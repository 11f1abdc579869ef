import type { RowRule } from './decoding/decode-requests.js';
import type { DecodeOutcome, SequenceContext } from './sequence-context.js';
import type { Reservation } from './sequence-pool.js';
import { FINISHED, type RuledTokens, type SequenceWork } from './sequence-work.js';
import type { SharedRows } from './shared-rows.js';
import type { TurnStrand } from './turn-tree.js';

/** So many new tokens without a draft, and none is expected soon. A request begins as if it had them. */
const CALM_TOKENS = 8;

type SequenceRunParts = Pick<SequenceRun, 'reservation' | 'cartridges' | 'prefix' | 'strand'>;

/** A piece of work in its sequence: how far it is, and which rows of the current batch are its own. */
export class SequenceRun {
  readonly work: SequenceWork;
  readonly reservation: Reservation;
  readonly cartridges: readonly SharedRows[];
  /** Shared first tokens of the work: the first run that needs them computes them. */
  readonly prefix: SharedRows | undefined;
  /** Where it stands among the turns that are kept for others. */
  readonly strand: TurnStrand | undefined;
  /** Rows at which another request waits to go on from. */
  publishAt: number;

  readonly #context: SequenceContext;
  /** Tokens of its rows behind those of the work, drafted ones included. */
  readonly #newTokens: number[] = [];
  #rows = 0;
  #position = 0;
  #nextToken = FINISHED;
  #attached = false;
  #batchRow = 0;
  #batchRows = 0;
  /** How the tokens behind its rows of the batch are chosen, where the work itself does not. */
  #ruled: RuledTokens | undefined;
  #acceptedTokens = 0;
  /** New tokens since something was drafted. */
  #undraftedTokens = CALM_TOKENS;

  constructor(context: SequenceContext, work: SequenceWork, parts: SequenceRunParts) {
    this.#context = context;
    this.work = work;
    this.reservation = parts.reservation;
    this.cartridges = parts.cartridges;
    this.prefix = parts.prefix;
    this.strand = parts.strand;
    this.publishAt = work.tokens.length;
    this.catchUp();
  }

  /** Goes on from where it stands among the turns, before its first own row. */
  catchUp(): void {
    const { strand } = this;
    this.#rows = strand ? strand.node.end - strand.node.origin.cartridgeEnd : 0;
  }

  get isGenerating(): boolean {
    return this.#rows >= this.work.tokens.length;
  }

  get batchRows(): number {
    return this.#batchRows;
  }

  /** For the rows of the batch that its next tokens come from; none when they are chosen by the work, or do not come yet. */
  get rowRules(): RowRule[] {
    if (!this.#ruled) return [];
    const { rule, stopsAtEnd } = this.#ruled;
    const first = Math.max(0, this.work.firstLogitsRow - this.#rows);
    const ruleOf = (row: number) => ({ row: this.#batchRow + row, rule, stopsAtEnd });
    return Array.from({ length: this.#batchRows - first }, (_, index) => ruleOf(first + index));
  }

  /** Drafted tokens of the current batch that came true. */
  get acceptedTokens(): number {
    return this.#acceptedTokens;
  }

  /** Rows computed so far, shared ones included, behind the cartridges. */
  get rows(): number {
    return this.#rows;
  }

  /** The tokens of these rows. */
  computedTokens(): Int32Array {
    const { tokens } = this.work;
    if (this.#rows <= tokens.length) return tokens.subarray(0, this.#rows);
    const computed = new Int32Array(this.#rows);
    computed.set(tokens);
    computed.set(this.#newTokens, tokens.length);
    return computed;
  }

  get unreadTokens(): number {
    return Math.max(0, this.work.tokens.length - this.#rows);
  }

  /**
   * Shares what stands before its own rows; gives the number of its tokens that this saved, or undefined while another run is
   * still computing them.
   */
  attach(): number | undefined {
    if (this.#attached) return 0;
    const { prefix, work } = this;
    if (prefix && !prefix.ready && prefix.producer !== this) return undefined;
    this.#attached = true;
    this.#shareRows();
    work.begin(this.#rows);
    return this.#rows;
  }

  /**
   * Puts its new token, which the last decode led to, into the batch, and behind it what the work drafts; returns how many rows
   * these are. A draft takes none of the cells that are set aside for later tokens from others.
   */
  addNewTokens(batchRow: number, draftRoom: number, rowCost: number): number {
    const { work } = this;
    const draft = work.draft?.(Math.min(draftRoom, this.#unusedRows - 1), rowCost) ?? [];
    const tokens = [this.#nextToken, ...draft];
    for (const [i, token] of tokens.entries()) {
      this.#context.addRow(token, this.#position + i, this.reservation.sequence, true);
    }
    this.#newTokens.push(...tokens);
    this.#batchRow = batchRow;
    this.#batchRows = tokens.length;
    this.#ruled = work.ruled;
    this.#undraftedTokens = tokens.length === 1 ? this.#undraftedTokens + 1 : 0;
    return tokens.length;
  }

  /** How many decodes behind those that are under way can compute its next tokens, without another look at the work. */
  decodesBehind(underWay: number): number {
    const canGoOn = this.isGenerating && this.#ruled !== undefined && this.#batchRows <= 1 && !this.work.cancelled;
    return canGoOn ? Math.max(0, this.#unusedRows - underWay) : 0;
  }

  /** Whether something would be drafted behind its newest token, now or soon. */
  wantsDraft(draftRoom: number, rowCost: number): boolean {
    const { work } = this;
    const room = Math.min(draftRoom, this.#unusedRows - 1);
    if (!work.draft || room < 1) return false;
    return this.#undraftedTokens < CALM_TOKENS || work.draft(room, rowCost).length > 0;
  }

  /** Its newest token was computed behind the last batch, as {@link decodesBehind} said that it can be. */
  goOn(): void {
    this.#newTokens.push(this.#nextToken);
    this.#batchRows = 1;
  }

  /** Takes a row out of the cache that was computed behind its last one. */
  dropRowsBehind(): void {
    if (this.#attached) this.#context.remove(this.reservation.sequence, this.#position);
  }

  /** Puts as many of its unread tokens into the batch as there is room for; returns how many rows and logits rows these are. */
  addTokens(batchRow: number, room: number, logitsRoom: number): { rows: number; logitsRows: number } {
    const { tokens, firstLogitsRow } = this.work;
    const withoutLogits = Math.max(0, firstLogitsRow - this.#rows);
    const rows = Math.min(room, tokens.length - this.#rows, withoutLogits + logitsRoom);
    for (let i = 0; i < rows; i++) {
      const row = this.#rows + i;
      const token = tokens[row] as number;
      this.#context.addRow(token, this.#position + i, this.reservation.sequence, row >= firstLogitsRow);
    }
    this.#batchRow = batchRow;
    this.#batchRows = rows;
    const isLast = firstLogitsRow === tokens.length - 1 && rows > withoutLogits;
    this.#ruled = isLast ? this.work.ruled : undefined;
    return { rows, logitsRows: Math.max(0, rows - withoutLogits) };
  }

  /**
   * After a decode: passes on the shared prefix when it is complete, and hands the work what was chosen by its {@link rowRules}, or
   * logits, up to the first token that was drafted wrongly. True when the work is finished.
   */
  advance(choices: DecodeOutcome['choices']): boolean {
    const first = this.#rows;
    const firstLogits = Math.max(first, this.work.firstLogitsRow);
    const isGenerating = this.isGenerating;
    this.#rows += this.#batchRows;
    this.#position += this.#batchRows;
    this.#passOnPrefix();
    for (let row = firstLogits; row < this.#rows; row++) {
      this.#nextToken = this.#ruled
        ? this.#ruled.take(choices[row - firstLogits])
        : this.work.consume(this.#context.logits(this.#batchRow + row - first), row);
      if (this.#isWrongBehind(row)) this.#dropBehind(row);
      if (isGenerating) this.#acceptedTokens = row - first;
      if (this.#nextToken === FINISHED) return true;
    }
    return false;
  }

  leaveBatch(): void {
    this.#batchRows = 0;
    this.#acceptedTokens = 0;
  }

  /** Rows of new tokens that it may still come to need. */
  get #unusedRows(): number {
    return this.work.tokens.length + this.work.newRows - this.#rows;
  }

  /** Whether the row behind this one was computed for another token than the one that comes. */
  #isWrongBehind(row: number): boolean {
    const drafted = this.#newTokens[row + 1 - this.work.tokens.length];
    return drafted !== undefined && drafted !== this.#nextToken;
  }

  #dropBehind(row: number): void {
    const dropped = this.#rows - row - 1;
    this.#rows -= dropped;
    this.#position -= dropped;
    this.#newTokens.length -= dropped;
    this.#context.remove(this.reservation.sequence, this.#position);
  }

  /** Takes the rows before its own from others. Those of turns are there since its start. */
  #shareRows(): void {
    const { prefix, strand, work } = this;
    if (this.#rows > 0) this.#position = strand?.node.end ?? 0;
    if (this.#rows > 0) return;
    for (const rows of prefix?.ready ? [prefix] : this.cartridges) {
      this.#context.share(rows.reservation.sequence, this.reservation.sequence, rows.end);
      this.#position = rows.end;
    }
    if (prefix?.ready) this.#rows = work.sharedTokens;
  }

  #passOnPrefix(): void {
    const { prefix } = this;
    if (prefix?.producer !== this || this.#rows < this.work.sharedTokens) return;
    this.#context.share(this.reservation.sequence, prefix.reservation.sequence, prefix.end);
    prefix.ready = true;
    prefix.producer = undefined;
  }
}
