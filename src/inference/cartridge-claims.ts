import type { CartridgeRows } from './sequence-work.js';

/** Counts the submitted requests that name a cartridge and are not over. */
export class CartridgeClaims {
  readonly #counts = new Map<CartridgeRows, number>();

  add(cartridges: readonly CartridgeRows[]): void {
    for (const cartridge of cartridges) this.#counts.set(cartridge, this.count(cartridge) + 1);
  }

  remove(cartridges: readonly CartridgeRows[]): void {
    for (const cartridge of cartridges) {
      const left = this.count(cartridge) - 1;
      if (left > 0) this.#counts.set(cartridge, left);
      else this.#counts.delete(cartridge);
    }
  }

  count(cartridge: CartridgeRows): number {
    return this.#counts.get(cartridge) ?? 0;
  }
}
