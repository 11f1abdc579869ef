import { CartridgesError, toCartridgesError } from '../core/errors.js';
import type { CartridgeRows } from './sequence-work.js';
import { WaitingLine } from './waiting-line.js';

/** Whether an entry could start; `later` when it waits for something that is on its way, so that others may go first. */
export type Start = 'started' | 'full' | 'later';

/** Something that waits for its turn: a request, or a cartridge that comes. */
export interface WaitingEntry {
  readonly scope: string;
  readonly isRequest: boolean;
  /** What it needs in the cache. */
  readonly cartridges: readonly CartridgeRows[];
  start(): Promise<Start>;
  isCancelled(): boolean;
  fail(error: CartridgesError): void;
}

/** Entries that one look at the line may pass over in each scope: a count of all would let one scope hold up the others. */
const MAX_PASSED_OVER = 64;

/**
 * Lets in what waits, in turns of the scopes, as long as there is room. One that does not fit holds up all behind it, so that
 * a large request is not passed by small ones for ever.
 */
export class Admission {
  readonly #line = new WaitingLine<WaitingEntry>();

  get size(): number {
    return this.#line.size;
  }

  get requests(): number {
    return [...this.#line].filter(({ isRequest }) => isRequest).length;
  }

  requestsOf(scope: string): number {
    return this.#line.of(scope).filter(({ isRequest }) => isRequest).length;
  }

  add(entry: WaitingEntry): void {
    this.#line.add(entry);
  }

  first(count: number): WaitingEntry[] {
    return this.#line.first(count);
  }

  remove(matching: (entry: WaitingEntry) => boolean): WaitingEntry[] {
    return this.#line.remove(matching);
  }

  /** True when something started, or failed to. What does not fit into an idle engine never will, and fails. */
  async admit(engine: { mayStart(): boolean; isIdle(): boolean }): Promise<boolean> {
    const passedOver = new Set<WaitingEntry>();
    let full: WaitingEntry | undefined;
    let started = 0;
    while (engine.mayStart()) {
      const entry = this.#line.next(passedOver, MAX_PASSED_OVER);
      if (!entry) break;
      const outcome = await entry.start().catch(toCartridgesError);
      if (outcome === 'full' && !engine.isIdle()) break;
      if (outcome === 'full') full ??= entry;
      if (outcome === 'full' || outcome === 'later') {
        passedOver.add(entry);
        continue;
      }
      this.#line.take(entry);
      if (outcome !== 'started') entry.fail(outcome);
      started++;
    }
    if (!full || started > 0) return started > 0;
    this.#line.take(full);
    full.fail(new CartridgesError('CONTEXT_OVERFLOW', 'loaded cartridges left no room for a request'));
    return true;
  }
}
