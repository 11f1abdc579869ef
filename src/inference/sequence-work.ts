import type { CartridgesError } from '../core/errors.js';
import type { ChoiceRule, TokenChoice } from './token-choice.js';

/** What {@link SequenceWork.consume} returns when it wants no further token. */
export const FINISHED = -1;

/** A cartridge as the scheduler needs it. */
export interface CartridgeRows {
  /** Cartridges of a context with the same key have the same rows. */
  readonly key: string;
  readonly tokenCount: number;
  /** Brings the rows into memory, where they are not there already; {@link forget} lets go of them. */
  read?(): Promise<void>;
  forget?(): void;
  /** The state blob of its rows, labelled from `firstPosition`. Throws when the rows do not fit the context. */
  stateBlob(firstPosition: number): Uint8Array;
}

/** Tokens that are chosen by a rule, behind the last of `tokens`, behind each new one and each that is drafted. */
export interface RuledTokens {
  readonly rule: ChoiceRule;
  /** A token that ends a turn is the last one. */
  readonly stopsAtEnd: boolean;
  /** Takes what was chosen, undefined where the logits are not finite, and returns as {@link SequenceWork.consume} does. */
  take(choice: TokenChoice | undefined): number;
}

/** One sequence that the scheduler runs: tokens to read, then as many new ones as {@link consume} asks for. */
export interface SequenceWork {
  readonly tokens: Int32Array;
  /** Rows from this one on (of `tokens`, and all new ones) give logits. At least `sharedTokens`. */
  readonly firstLogitsRow: number;
  /** Most new tokens whose rows are computed behind `tokens`. */
  readonly newRows: number;
  /** The first tokens that other work begins with too; 0 for none. */
  readonly sharedTokens: number;
  /** Rows are only shared inside a scope. */
  readonly scope: string;
  /** What stands before the tokens, in this order. */
  readonly cartridges: readonly CartridgeRows[];
  /** Asked between two decodes; work that is cancelled is failed with `CANCELLED`. */
  readonly cancelled: boolean;
  /** Its first row is about to be computed; `cachedTokens` of its tokens came from other work. */
  begin(cachedTokens: number): void;
  /** Takes the logits behind row `row` and returns the next token, or {@link FINISHED}. The view does not last. */
  consume(logits: Float32Array, row: number): number;
  /** There when its next token may be chosen in place of that, by the thread that decodes. */
  readonly ruled?: RuledTokens | undefined;
  /**
   * At most `room` tokens that may follow the one that {@link consume} returned last, and are worth the `rowCost` of a row: they
   * are computed beside it, and those that {@link consume} does not return next are dropped. May be asked for several times, the
   * last draft counts, and it need not be computed. There only where nothing is drawn: what would be behind a wrong one is drawn
   * for nobody.
   */
  draft?(room: number, rowCost: number): Int32Array;
  fail(error: CartridgesError): void;
}

export function cartridgeTokens(work: SequenceWork): number {
  return work.cartridges.reduce((sum, { tokenCount }) => sum + tokenCount, 0);
}
