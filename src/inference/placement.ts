import type { CartridgeRows, SequenceWork } from './sequence-work.js';
import type { SharedRowsNeed } from './shared-rows.js';

/** A cartridge at a place in a sequence. */
export interface Placement extends SharedRowsNeed {
  readonly cartridge: CartridgeRows;
  readonly firstPosition: number;
}

/** Where cartridges lie that stand behind each other. The same one has other labels, and so other cells, at another place. */
export function placements(cartridges: readonly CartridgeRows[]): Placement[] {
  let end = 0;
  return cartridges.map((cartridge) => {
    const firstPosition = end;
    end += cartridge.tokenCount;
    return { cartridge, firstPosition, key: `${cartridge.key}@${firstPosition}`, cells: cartridge.tokenCount, end };
  });
}

/** What rows behind these cartridges may be shared among: work of one scope. */
export function originKey(scope: string, places: readonly Placement[]): string {
  return JSON.stringify([scope, ...places.map(({ key }) => key)]);
}

/** The first tokens that the work says it shares, as rows of their own. */
export function sharedPrefix(work: SequenceWork, places: readonly Placement[]): SharedRowsNeed | undefined {
  const { tokens, sharedTokens } = work;
  if (sharedTokens === 0) return undefined;
  const bytes = Buffer.from(tokens.buffer, tokens.byteOffset, sharedTokens * tokens.BYTES_PER_ELEMENT);
  const key = `${originKey(work.scope, places)} ${bytes.toString('base64')}`;
  return { key, cells: sharedTokens, end: (places.at(-1)?.end ?? 0) + sharedTokens };
}
