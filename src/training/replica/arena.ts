const ALIGNMENT = 64n;

/** Hands out memory piece after piece, from `base` on. Over the address 0 it only counts, for a plan. */
export class Arena {
  readonly #base: bigint;
  #next: bigint;

  constructor(base: bigint) {
    this.#base = base;
    this.#next = base;
  }

  get byteLength(): number {
    return Number(this.#next - this.#base);
  }

  /** The address of the next `bytes` bytes. */
  take(bytes: number): bigint {
    const address = this.#next;
    const end = address + BigInt(bytes);
    this.#next = ((end + ALIGNMENT - 1n) / ALIGNMENT) * ALIGNMENT;
    return address;
  }
}
