import { concatenate } from '../core/concatenate.js';
import { CartridgesError } from '../core/errors.js';
import type { Cartridge, Receipt } from './cartridge.js';
import { compareFingerprints } from './fingerprint.js';
import { describeParent } from './lineage.js';

/**
 * Puts cartridges behind each other, in order: the rows of all, each with the rotation it was trained with. What follows
 * stands behind the sum of their sizes. The arrays are new.
 *
 * Frozen rows are the first rows of a cartridge by definition: of a composition these are the frozen rows of the first one
 * and, while all rows so far are frozen, those of the next. What was frozen further back becomes trainable.
 *
 * Throws `INVALID_INPUT` for an empty list and `CARTRIDGE_MISMATCH` when models or framings differ.
 */
export function composeCartridges(
  cartridges: readonly Cartridge[],
  stamp: Pick<Receipt, 'createdBy' | 'createdAt'> = { createdBy: 'cartridges', createdAt: new Date().toISOString() },
): Cartridge {
  const [first] = cartridges;
  if (!first) throw new CartridgesError('INVALID_INPUT', 'there are no cartridges to compose', { hint: 'name at least one' });
  cartridges.forEach((cartridge, index) => {
    checkSameModel(first, cartridge, index + 1);
  });
  const join = (kind: 'keys' | 'values') =>
    first[kind].map((_, layer) =>
      concatenate(
        Float32Array,
        cartridges.map((cartridge) => cartridge[kind][layer]!),
      ),
    );
  return {
    model: first.model,
    framing: first.framing,
    tokenCount: cartridges.reduce((sum, { tokenCount }) => sum + tokenCount, 0),
    frozenCount: leadingFrozenRows(cartridges),
    keys: join('keys'),
    values: join('values'),
    receipt: {
      ...stamp,
      initializer: 'composition',
      parents: cartridges.map((cartridge) => describeParent(cartridge)),
    },
  };
}

function leadingFrozenRows(cartridges: readonly Cartridge[]): number {
  let rows = 0;
  for (const { tokenCount, frozenCount } of cartridges) {
    rows += frozenCount;
    if (frozenCount < tokenCount) break;
  }
  return rows;
}

function checkSameModel(first: Cartridge, other: Cartridge, number: number): void {
  const [difference] = compareFingerprints(first.model, other.model);
  const framing = first.framing.hash === other.framing.hash ? undefined : 'framing';
  const field = difference?.field ?? framing;
  if (!field) return;
  throw new CartridgesError('CARTRIDGE_MISMATCH', `cartridges 1 and ${number} cannot be composed: their ${field} differs`, {
    hint: 'compose cartridges that were trained for the same model file',
  });
}
