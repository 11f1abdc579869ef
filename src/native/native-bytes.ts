import { CartridgesError } from '../core/errors.js';
import { koffi } from './koffi.js';

const UNIT = { type: 'uint64_t', bytes: 8 } as const;

/**
 * Bytes outside of JavaScript's memory, zeroed. The garbage collector does not count them: it would look through all of its own memory
 * after a few large copies, and still free them late. So whoever holds them disposes them.
 */
export class NativeBytes {
  readonly byteLength: number;
  #memory: unknown;

  /** Throws `OUT_OF_MEMORY`. */
  constructor(byteLength: number) {
    this.byteLength = byteLength;
    try {
      this.#memory = koffi.alloc(UNIT.type, Math.max(1, Math.ceil(byteLength / UNIT.bytes)));
    } catch (error) {
      throw new CartridgesError('OUT_OF_MEMORY', `there are no ${byteLength} bytes left`, { cause: error });
    }
  }

  /** Where they are, until they are disposed. */
  get address(): bigint {
    if (this.#memory === undefined) throw new CartridgesError('INTERNAL', 'memory was used after it was freed');
    return BigInt(koffi.address(this.#memory));
  }

  /** Nothing may read or write them any more. */
  dispose(): void {
    if (this.#memory !== undefined) koffi.free(this.#memory);
    this.#memory = undefined;
  }
}
