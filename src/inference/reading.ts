import type { CartridgesError } from '../core/errors.js';
import type { ReadRequest } from './requests.js';
import { type CartridgeRows, FINISHED, type SequenceWork } from './sequence-work.js';

/** Reading tokens for their logits, as the scheduler's work. */
export class Reading implements SequenceWork {
  readonly tokens: Int32Array;
  readonly firstLogitsRow: number;
  readonly newRows = 0;
  readonly sharedTokens: number;
  readonly scope: string;
  readonly cartridges: readonly CartridgeRows[];
  readonly #request: ReadRequest;
  readonly #outcome: { resolve(): void; reject(error: CartridgesError): void };

  constructor(request: ReadRequest, outcome: { resolve(): void; reject(error: CartridgesError): void }) {
    this.#request = request;
    this.#outcome = outcome;
    this.tokens = request.tokens;
    this.firstLogitsRow = request.firstLogitsRow;
    this.sharedTokens = Math.min(request.sharedPrefixTokens ?? 0, request.firstLogitsRow);
    this.scope = request.scope ?? '';
    this.cartridges = request.cartridges ?? [];
  }

  get cancelled(): boolean {
    return this.#request.signal?.aborted ?? false;
  }

  begin(): void {}

  consume(logits: Float32Array, row: number): number {
    this.#request.onLogits(logits, row);
    if (row === this.tokens.length - 1) this.#outcome.resolve();
    return row === this.tokens.length - 1 ? FINISHED : (this.tokens[row + 1] as number);
  }

  fail(error: CartridgesError): void {
    this.#outcome.reject(error);
  }
}
