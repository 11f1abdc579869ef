import { type CartridgesError, toCartridgesError } from '../core/errors.js';
import type { CartridgeRows } from './sequence-work.js';

/** Cartridges that may be in memory, or on the way there, for requests that wait; those of the first one may be more. */
const MAX_READS = 4;

interface Read {
  isDone: boolean;
  error?: CartridgesError;
}

/** Reads cartridges for the requests that wait for them, a few at a time, while others run. */
export class CartridgeReads {
  readonly #reads = new Map<CartridgeRows, Read>();
  readonly #onRead: () => void;

  /** `onRead` is called whenever a read has ended. */
  constructor(onRead: () => void) {
    this.#onRead = onRead;
  }

  /**
   * Starts the reads of those that wait, first come first: `wanted` has the missing cartridges of each. Lets go of what nobody
   * wants any more.
   */
  follow(wanted: readonly (readonly CartridgeRows[])[]): void {
    const all = new Set(wanted.flat());
    for (const [cartridge, read] of this.#reads) if (read.isDone && !all.has(cartridge)) this.forget(cartridge);
    for (const cartridges of wanted) {
      if (this.#reads.size >= MAX_READS && cartridges !== wanted[0]) return;
      for (const cartridge of cartridges) if (cartridge.read && !this.#reads.has(cartridge)) this.#start(cartridge);
    }
  }

  /** True when the rows are in memory. */
  isReady(cartridge: CartridgeRows): boolean {
    const read = this.#reads.get(cartridge);
    return !cartridge.read || (read?.isDone === true && !read.error);
  }

  /** Reads that failed, each told once: whoever asks later has it tried again. */
  takeFailures(): { cartridge: CartridgeRows; error: CartridgesError }[] {
    const failures = [...this.#reads].flatMap(([cartridge, { error }]) => (error ? { cartridge, error } : []));
    for (const { cartridge } of failures) this.forget(cartridge);
    return failures;
  }

  forget(cartridge: CartridgeRows): void {
    if (this.#reads.delete(cartridge)) cartridge.forget?.();
  }

  #start(cartridge: CartridgeRows): void {
    const read: Read = { isDone: false };
    this.#reads.set(cartridge, read);
    const settle = (error?: unknown) => {
      read.isDone = true;
      if (error !== undefined) read.error = toCartridgesError(error);
      this.#onRead();
    };
    Promise.resolve()
      .then(() => cartridge.read?.())
      .then(() => settle(), settle);
  }
}
