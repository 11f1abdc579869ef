import type { Caller } from '../caller.js';
import type { CartridgeLibrary, CartridgeReference, HeldCartridges } from '../cartridges/cartridge-library.js';
import { notFound, RequestError, refusalFor } from '../request-error.js';
import { splitModelId } from '../served-model.js';
import type { CartridgeField } from './request-fields.js';

/** The places of a request where cartridges can be named. */
export interface CartridgeNames {
  /** `BASE` or `BASE:NAME`. */
  model: string;
  field: readonly CartridgeField[];
  /** From blocks in system messages. */
  blocks: readonly CartridgeField[];
  order: 'given' | 'sorted';
  /** Where a block stands. */
  blockParam: string | undefined;
}

export interface CartridgeChoice {
  references: readonly CartridgeReference[];
  model: string;
  /** The field of the request that chose. */
  param: string;
}

/**
 * The cartridges that a request wants, in the order in which they will stand. Rejects with 404 for another model than `base`,
 * with 400 when two places name cartridges that are not the same ones in the same order.
 */
export function chooseCartridges(names: CartridgeNames, base: string): CartridgeChoice {
  const { model, field, blocks, blockParam = 'messages' } = names;
  const id = splitModelId(model, base);
  if (!id) throw notFound('model', model, 'model');
  const named = id.cartridge === undefined ? [] : [{ id: id.cartridge, source: 'local' as const, force_redownload: false }];
  const [wanted, inBlocks] = [inOrder(field, names.order), inOrder(blocks, names.order)];
  const places = [
    { param: blockParam, cartridges: inBlocks },
    { param: 'cartridges', cartridges: wanted },
    { param: 'model', cartridges: named },
  ].filter(({ cartridges }) => cartridges.length > 0);
  const [chosen, ...others] = places;
  if (!chosen) return { references: [], model, param: 'model' };
  for (const other of others) checkAgreement(chosen, other);
  return { references: chosen.cartridges.map(toReference), model, param: chosen.param };
}

/**
 * Holds what was chosen; the caller of this function must release it. A cartridge that a model id names and that the key may
 * not use or nobody has is answered like a model that does not exist.
 */
export async function holdCartridges(
  { references, model, param }: CartridgeChoice,
  library: CartridgeLibrary,
  caller: Caller,
  signal: AbortSignal,
): Promise<HeldCartridges> {
  if (references.length === 0) return NO_CARTRIDGES;
  const held = await library.hold(references, caller, signal).catch((error: unknown) => {
    if (!(error instanceof RequestError) || (error.status !== 404 && error.status !== 400)) throw error;
    if (error.status === 404 && param === 'model') throw notFound('model', model, 'model');
    throw refusalFor(error, error.status, { param });
  });
  if (new Set(held.handles).size === held.handles.length) return held;
  held.release();
  throw new RequestError(400, 'a request names the same cartridge twice', { param });
}

const NO_CARTRIDGES: HeldCartridges = { handles: [], ids: [], tokenCount: 0, release: () => {} };

interface Place {
  param: string;
  cartridges: readonly CartridgeField[];
}

function checkAgreement(chosen: Place, other: Place): void {
  // The name of a model says an id and nothing else.
  const describe = ({ cartridges }: Place) =>
    JSON.stringify(cartridges.map((each) => (other.param === 'model' ? each.id : toReference(each))));
  if (describe(chosen) === describe(other)) return;
  throw new RequestError(400, `${other.param} and ${chosen.param} name different cartridges`, {
    param: other.param,
    hint: 'name the cartridges in one place',
  });
}

function toReference({ id, source, force_redownload }: CartridgeField): CartridgeReference {
  return { id, source, forceRedownload: force_redownload };
}

function inOrder(cartridges: readonly CartridgeField[], order: 'given' | 'sorted'): readonly CartridgeField[] {
  return order === 'given' ? cartridges : [...cartridges].sort((a, b) => (a.id < b.id ? -1 : a.id > b.id ? 1 : 0));
}
