import { CartridgesError } from '../core/errors.js';
import { placements } from './placement.js';
import { type CartridgeRows, cartridgeTokens, type SequenceWork } from './sequence-work.js';

interface Room {
  cells: number;
  sequences: number;
  /** Positions of one sequence. */
  sequenceTokens: number;
}

/** Refuses at once what a context could never hold, given the cartridges that stay in it. */
export class RoomCheck {
  readonly #room: Room;
  readonly #pinned = new Set<CartridgeRows>();

  constructor(room: Room) {
    this.#room = room;
  }

  isPinned(cartridge: CartridgeRows): boolean {
    return this.#pinned.has(cartridge);
  }

  /** Counts a cartridge as one that stays. Throws `CONTEXT_OVERFLOW`. */
  pin(cartridge: CartridgeRows): void {
    this.checkCartridge(cartridge);
    this.#pinned.add(cartridge);
  }

  unpin(cartridge: CartridgeRows): void {
    this.#pinned.delete(cartridge);
  }

  /** Throws `CONTEXT_OVERFLOW`. */
  checkCartridge({ tokenCount }: CartridgeRows): void {
    this.#checkCells(tokenCount, 1, `the cartridge of ${tokenCount} tokens`);
  }

  /** Throws `CONTEXT_OVERFLOW`. */
  checkWork(work: SequenceWork): void {
    const before = cartridgeTokens(work);
    const length = before + work.tokens.length + work.newRows;
    const parts = `${before} of cartridges, ${work.tokens.length} of the prompt, ${work.newRows} new`;
    if (length > this.#room.sequenceTokens) {
      throw new CartridgesError(
        'CONTEXT_OVERFLOW',
        `a request needs ${length} tokens (${parts}), one sequence has room for ${this.#room.sequenceTokens}`,
        { hint: 'shorten the prompt, ask for fewer new tokens, or use a model with a longer context' },
      );
    }
    // A pinned cartridge is there already, at the beginning; behind another one it is needed again.
    const needed = placements(work.cartridges).filter((place) => place.firstPosition > 0 || !this.isPinned(place.cartridge));
    const cells = needed.reduce((sum, place) => sum + place.cells, work.tokens.length + work.newRows);
    this.#checkCells(cells, needed.length + (work.sharedTokens > 0 ? 2 : 1), `a request of ${length} tokens (${parts})`);
  }

  #checkCells(cells: number, sequences: number, what: string): void {
    const pinnedCells = [...this.#pinned].reduce((sum, { tokenCount }) => sum + tokenCount, 0);
    const free = this.#room.cells - pinnedCells;
    if (cells > free) {
      throw new CartridgesError(
        'CONTEXT_OVERFLOW',
        `${what} needs ${cells} cells of the cache, ${free} of ${this.#room.cells} are not taken by cartridges`,
        { hint: 'make the context larger, or the request shorter' },
      );
    }
    if (sequences > this.#room.sequences - this.#pinned.size) {
      throw new CartridgesError('CONTEXT_OVERFLOW', `${what} needs a sequence beyond the ${this.#room.sequences} there are`, {
        hint: 'unload some cartridges',
      });
    }
  }
}
