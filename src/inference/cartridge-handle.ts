import type { Cartridge, ModelFingerprint } from '../cartridge/cartridge.js';
import { rowValues } from '../cartridge/cartridge-checks.js';
import { buildStateBlob, type StateBlobSettings } from '../cartridge/state-blob.js';
import { CartridgesError } from '../core/errors.js';
import type { CartridgeRows } from './sequence-work.js';

/** A cartridge that can be read whenever its rows are needed. */
export interface CartridgeSource {
  /** SHA-256 of its file: cartridges with the same key share their rows in the cache. */
  readonly key: string;
  readonly tokenCount: number;
  readonly model: Pick<ModelFingerprint, 'layers' | 'kvHeads' | 'headDimension'>;
  read(): Promise<Cartridge>;
}

/** A cartridge that an engine knows, shared by all requests that name it. */
export class CartridgeHandle implements CartridgeRows {
  readonly key: string;
  readonly tokenCount: number;
  readonly read?: () => Promise<void>;
  readonly #layout: StateBlobSettings;
  #cartridge: Cartridge | undefined;

  private constructor(fields: Pick<CartridgeHandle, 'key' | 'tokenCount' | 'read'>, layout: StateBlobSettings) {
    this.key = fields.key;
    this.tokenCount = fields.tokenCount;
    this.read = fields.read;
    this.#layout = layout;
  }

  /** One whose rows stay in memory. */
  static ofCartridge(key: string, cartridge: Cartridge, layout: StateBlobSettings): CartridgeHandle {
    const handle = new CartridgeHandle({ key, tokenCount: cartridge.tokenCount }, layout);
    handle.#cartridge = cartridge;
    return handle;
  }

  /** One whose rows are read when they are needed. */
  static ofSource(source: CartridgeSource, shape: RowShape, layout: StateBlobSettings): CartridgeHandle {
    const { key, tokenCount } = source;
    const read = async () => {
      const cartridge = await source.read();
      checkRowSize(cartridge, shape);
      checkRowCount(cartridge, source);
      handle.#cartridge = cartridge;
    };
    const handle = new CartridgeHandle({ key, tokenCount, read }, layout);
    return handle;
  }

  forget(): void {
    if (this.read) this.#cartridge = undefined;
  }

  /** A cartridge behind another one is labelled from that one's end; the rotation of its keys stays as it was trained. */
  stateBlob(firstPosition: number): Uint8Array {
    if (!this.#cartridge) throw new CartridgesError('INTERNAL', `the cartridge ${this.key} was not read before it was loaded`);
    return buildStateBlob(this.#cartridge, { ...this.#layout, streams: 1 }, firstPosition);
  }
}

/** Layers of a model, and values of one token's keys in one of them. */
interface RowShape {
  layers: number;
  rowValues: number;
}

/** Throws `CARTRIDGE_MISMATCH` unless the rows have the size that the model's cache has. */
export function checkRowSize({ model }: Pick<CartridgeSource, 'model'>, shape: RowShape): void {
  const values = rowValues(model);
  if (model.layers === shape.layers && values === shape.rowValues) return;
  throw new CartridgesError(
    'CARTRIDGE_MISMATCH',
    `the cartridge has ${model.layers} layers of ${values} values a row, the model ${shape.layers} of ${shape.rowValues}`,
    { hint: 'load the model that the cartridge was trained for' },
  );
}

/** The cells were set aside by what the source said. */
function checkRowCount({ tokenCount }: Cartridge, source: CartridgeSource): void {
  if (tokenCount === source.tokenCount) return;
  throw new CartridgesError('INVALID_CARTRIDGE', `the cartridge has ${tokenCount} rows, its source says ${source.tokenCount}`, {
    hint: 'its file was changed: load it anew',
  });
}
