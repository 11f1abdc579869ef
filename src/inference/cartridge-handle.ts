import type { Cartridge } from '../cartridge/cartridge.js';
import { rowValues } from '../cartridge/cartridge-checks.js';
import { buildStateBlob, type StateBlobSettings } from '../cartridge/state-blob.js';
import { CartridgesError } from '../core/errors.js';
import type { CartridgeRows } from './sequence-work.js';

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

  /** A cartridge behind another one is labelled from that one's end; the rotation of its keys stays as it was trained. */
  stateBlob(firstPosition: number): Uint8Array {
    return buildStateBlob(this.#cartridge, { ...this.#layout, streams: 1 }, firstPosition);
  }
}

/** Throws `CARTRIDGE_MISMATCH` unless the rows have the size that the model's cache has. */
export function checkRowSize({ model }: Cartridge, shape: { layers: number; rowValues: number }): void {
  const values = rowValues(model);
  if (model.layers === shape.layers && values === shape.rowValues) return;
  throw new CartridgesError(
    'CARTRIDGE_MISMATCH',
    `the cartridge has ${model.layers} layers of ${values} values a row, the model ${shape.layers} of ${shape.rowValues}`,
    { hint: 'load the model that the cartridge was trained for' },
  );
}
