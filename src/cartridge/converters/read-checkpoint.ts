import { readFile, stat } from 'node:fs/promises';
import { basename } from 'node:path';
import { CartridgesError, toCartridgesError } from '../../core/errors.js';
import { sha256 } from '../../core/hashing.js';
import { packageVersion } from '../../core/package.js';
import { architectureTraits } from '../../models/registry.js';
import type { Cartridge, FramingStamp, ModelFingerprint } from '../cartridge.js';
import { checkCartridge } from '../cartridge-checks.js';
import type { FloatType } from '../float-conversion.js';
import { parseCheckpoint } from './checkpoint-rows.js';
import { invalidCheckpoint } from './invalid-checkpoint.js';
import { halvesToNeighbours } from './key-order.js';

/** Node reads no larger file in one piece. */
const MAX_FILE_BYTES = 2 ** 31 - 1;

/** What a checkpoint is taken for: the file says nothing of it. */
export interface CheckpointOwner {
  model: ModelFingerprint;
  framing: FramingStamp;
}

/**
 * Reads a cartridge of the Python project for `owner`, its keys moved to the order of the model's GGUF. Nothing in the file is
 * executed. Throws `FILE_NOT_FOUND`, `INVALID_CARTRIDGE`, or `CARTRIDGE_MISMATCH` when the model has other sizes.
 */
export async function readCheckpoint(path: string, owner: CheckpointOwner): Promise<{ cartridge: Cartridge; type: FloatType }> {
  const bytes = await readWhole(path);
  const { type, kvHeads, headDimension, ...rows } = parseCheckpoint(bytes, path);
  assertSizes(owner.model, { layers: rows.keys.length, kvHeads, headDimension }, path);
  const cartridge: Cartridge = {
    ...owner,
    ...rows,
    keys: toGgufOrder(rows.keys, owner.model),
    receipt: {
      createdBy: `cartridges ${packageVersion()}`,
      createdAt: new Date().toISOString(),
      initializer: 'imported',
      importedFrom: { format: 'pt', name: basename(path), contentHash: sha256(bytes), storedAs: type },
    },
  };
  checkCartridge(cartridge, { keys: type, values: type }, path);
  return { cartridge, type };
}

async function readWhole(path: string): Promise<Buffer> {
  try {
    const status = await stat(path);
    // Opening a pipe would wait for a writer.
    if (!status.isFile()) throw invalidCheckpoint(path, 'it is no file');
    if (status.size > MAX_FILE_BYTES) throw invalidCheckpoint(path, `it has ${status.size} bytes, more than ${MAX_FILE_BYTES}`);
    return await readFile(path);
  } catch (error) {
    throw toCartridgesError(error);
  }
}

function toGgufOrder(keys: Float32Array[], { architecture, headDimension }: ModelFingerprint): Float32Array[] {
  const { ropePairs } = architectureTraits(architecture, 'the model');
  return ropePairs === 'halves' ? keys : keys.map((layer) => halvesToNeighbours(layer, headDimension));
}

function assertSizes(
  model: ModelFingerprint,
  sizes: { layers: number; kvHeads: number; headDimension: number },
  path: string,
): void {
  if (model.layers === sizes.layers && model.kvHeads === sizes.kvHeads && model.headDimension === sizes.headDimension) return;
  const describe = ({ layers, kvHeads, headDimension }: typeof sizes) =>
    `${layers} layers of ${kvHeads} heads of ${headDimension}`;
  throw new CartridgesError('CARTRIDGE_MISMATCH', `${path} has ${describe(sizes)}, the model ${describe(model)}`, {
    hint: 'load a GGUF of the model that the cartridge was trained for',
  });
}
