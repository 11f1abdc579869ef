import type { Cartridge } from '../cartridge/cartridge.js';
import { buildStateBlob, type StateBlobSettings } from '../cartridge/state-blob.js';
import { CartridgesError } from '../core/errors.js';
import type { CartridgeRows } from './sequence-work.js';

/** Where the label of a cell lies in a state blob, and how far the next one is from it. */
const FIRST_LABEL = 16;
const LABEL_BYTES = 12;

/** A cartridge in the cache of one engine, shared by all requests that name it. */
export class CartridgeHandle implements CartridgeRows {
  readonly key: string;
  readonly tokenCount: number;
  readonly #cartridge: Cartridge;
  readonly #layout: StateBlobSettings;

  constructor(key: string, cartridge: Cartridge, layout: StateBlobSettings) {
    this.key = key;
    this.tokenCount = cartridge.tokenCount;
    this.#cartridge = cartridge;
    this.#layout = layout;
  }

  /**
   * Only the label of a row decides what may attend to it and where the next token stands, so a cartridge behind another one
   * is labelled from that one's end. The rotation of its keys stays as it was trained.
   */
  stateBlob(firstPosition: number): Uint8Array {
    const blob = buildStateBlob(this.#cartridge, { ...this.#layout, streams: 1 });
    for (let row = 0; row < this.tokenCount; row++) {
      blob.writeInt32LE(firstPosition + row, FIRST_LABEL + row * LABEL_BYTES);
    }
    return blob;
  }
}

/** Throws `CARTRIDGE_MISMATCH` unless the rows have the size that the model's cache has. */
export function checkRowSize({ model }: Cartridge, shape: { layers: number; rowValues: number }): void {
  const values = model.kvHeads * model.headDimension;
  if (model.layers === shape.layers && values === shape.rowValues) return;
  throw new CartridgesError(
    'CARTRIDGE_MISMATCH',
    `the cartridge has ${model.layers} layers of ${values} values a row, the model ${shape.layers} of ${shape.rowValues}`,
    { hint: 'load the model that the cartridge was trained for' },
  );
}
