import type { Cartridge } from '../cartridge/cartridge.js';
import { readCartridge } from '../cartridge/cartridge-file.js';
import { assertUsableWith } from '../cartridge/fingerprint.js';
import { CartridgesError } from '../core/errors.js';
import type { ModelSession } from './model-session.js';

export interface OpenedCartridge {
  cartridge: Cartridge;
  /** It was trained with another quantisation of the model. */
  quantizationDiffers: boolean;
}

/** What a cartridge has to belong to. */
export type CartridgeModel = Pick<ModelSession, 'fingerprint' | 'framing'>;

/**
 * Reads a cartridge and checks that it belongs to the model and its framing. Throws `INVALID_CARTRIDGE`, or
 * `CARTRIDGE_MISMATCH` naming the field that differs.
 */
export async function openCartridge(
  path: string,
  session: CartridgeModel,
  options: { allowQuantization: boolean },
): Promise<OpenedCartridge> {
  const cartridge = await readCartridge(path);
  return { cartridge, ...assertBelongsTo(cartridge, path, session, options) };
}

/** Throws `CARTRIDGE_MISMATCH` unless what a file says about its cartridge is true of the model and its framing. */
export function assertBelongsTo(
  { model, framing }: Pick<Cartridge, 'model' | 'framing'>,
  path: string,
  session: CartridgeModel,
  options: { allowQuantization: boolean },
): { quantizationDiffers: boolean } {
  const { quantizationDiffers } = assertUsableWith({ model }, session.fingerprint, options);
  if (framing.hash === session.framing.hash) return { quantizationDiffers };
  throw new CartridgesError(
    'CARTRIDGE_MISMATCH',
    `${path} was trained with the framing ${framing.name} ${framing.hash.slice(0, 12)}, ` +
      `the model's is ${session.framing.name} ${session.framing.hash.slice(0, 12)}`,
    { hint: "the chat template in the model's file changed: use the file that the cartridge was made with" },
  );
}
