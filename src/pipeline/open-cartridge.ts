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

/**
 * Reads a cartridge and checks that it belongs to the model and its framing. Throws `INVALID_CARTRIDGE`, or
 * `CARTRIDGE_MISMATCH` naming the field that differs.
 */
export async function openCartridge(
  path: string,
  session: ModelSession,
  options: { allowQuantization: boolean },
): Promise<OpenedCartridge> {
  const cartridge = await readCartridge(path);
  const { quantizationDiffers } = assertUsableWith(cartridge, session.fingerprint, options);
  if (cartridge.framing.hash === session.framing.hash) return { cartridge, quantizationDiffers };
  throw new CartridgesError(
    'CARTRIDGE_MISMATCH',
    `${path} was trained with the framing ${cartridge.framing.name} ${cartridge.framing.hash.slice(0, 12)}, ` +
      `the model's is ${session.framing.name} ${session.framing.hash.slice(0, 12)}`,
    { hint: "the chat template in the model's file changed: use the file that the cartridge was made with" },
  );
}
