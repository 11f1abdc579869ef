import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { CartridgesError, toCartridgesError } from '../../core/errors.js';
import { writeFileAtomic } from '../../core/files.js';
import { architectureTraits } from '../../models/registry.js';
import type { Cartridge } from '../cartridge.js';
import { checkCartridge, rowValues } from '../cartridge-checks.js';
import { encodeFloats } from '../float-conversion.js';
import { neighboursToHalves } from './key-order.js';
import { pickleTensorLists, type TensorReference } from './pickle-writer.js';
import { writeZip, type ZipEntry } from './zip-writer.js';

/** Name of the folder inside the archive; readers take whatever it is called. */
const ROOT = 'cartridge';
const CONFIG_NAME = 'config.yaml';
/** Tokasaurus keeps rows in pages of this many tokens. */
const PAGE_TOKENS = 16;

const PARTS = ['trainable_keys', 'trainable_values', 'frozen_keys', 'frozen_values'] as const;
type Part = (typeof PARTS)[number];

export interface CheckpointOptions {
  /** For `model.pretrained_model_name_or_path` of the configuration: the weights in Hugging Face's form. */
  baseModel: string;
}

export interface WrittenCheckpoint {
  path: string;
  configPath: string;
  /** Why the Python project or its server would not load the files; empty when nothing speaks against it. */
  warnings: string[];
}

/**
 * Writes a cartridge as the Python project saves it, in bf16, with the `config.yaml` that its server reads beside it. Throws
 * `INVALID_OPTION` when another `config.yaml` is there already, `INVALID_CARTRIDGE` and `DISK_FULL`.
 */
export async function writeCheckpoint(
  path: string,
  cartridge: Cartridge,
  options: CheckpointOptions,
): Promise<WrittenCheckpoint> {
  checkCartridge(cartridge, { keys: 'bf16', values: 'bf16' }, 'the cartridge');
  const configPath = join(dirname(path), CONFIG_NAME);
  const config = describeCheckpoint(cartridge, options);
  await assertReplaceable(configPath, config);
  await writeZip(path, checkpointEntries(cartridge));
  await writeFileAtomic(configPath, config);
  return { path, configPath, warnings: findObstacles(cartridge) };
}

function* checkpointEntries(cartridge: Cartridge): Generator<ZipEntry> {
  const tensors = PARTS.flatMap((part) => partTensors(cartridge, part));
  const lists = Object.fromEntries(PARTS.map((part) => [part, tensors.filter((tensor) => tensor.part === part)]));
  const entry = (name: string, content: string | Uint8Array) => ({ name: `${ROOT}/${name}`, bytes: Buffer.from(content) });
  yield entry('data.pkl', pickleTensorLists(lists));
  yield entry('.format_version', '1');
  yield entry('.storage_alignment', '64');
  yield entry('byteorder', 'little');
  for (const tensor of tensors) yield entry(`data/${tensor.key}`, tensorBytes(cartridge, tensor));
  yield entry('version', '3\n');
}

interface PartTensor extends TensorReference {
  part: Part;
  layer: number;
}

/** A tensor [1, Hkv, rows, D] for each layer; none when the part has no rows to freeze, as upstream saves it. */
function partTensors({ model, tokenCount, frozenCount }: Cartridge, part: Part): PartTensor[] {
  const rows = part.startsWith('frozen') ? frozenCount : tokenCount - frozenCount;
  if (part.startsWith('frozen') && rows === 0) return [];
  const first = PARTS.indexOf(part) * model.layers;
  return Array.from({ length: model.layers }, (_, layer) => {
    return { part, layer, key: String(first + layer), shape: [1, model.kvHeads, rows, model.headDimension] };
  });
}

/** Rows [n, Hkv, D] of the cartridge as bytes [Hkv, n, D], keys in Hugging Face's order. */
function tensorBytes({ model, frozenCount, ...cartridge }: Cartridge, { part, layer, shape }: PartTensor): Uint8Array {
  const [, heads, rows, dimension] = shape as [number, number, number, number];
  const isKeys = part.endsWith('keys');
  const stored = cartridge[isKeys ? 'keys' : 'values'][layer]!;
  const isPermuted = isKeys && architectureTraits(model.architecture, 'the cartridge').ropePairs === 'neighbours';
  const source = isPermuted ? neighboursToHalves(stored, dimension) : stored;
  const firstRow = part.startsWith('frozen') ? 0 : frozenCount;
  const target = new Float32Array(heads * rows * dimension);
  for (let head = 0; head < heads; head++) {
    for (let row = 0; row < rows; row++) {
      const from = (firstRow + row) * rowValues(model) + head * dimension;
      target.set(source.subarray(from, from + dimension), (head * rows + row) * dimension);
    }
  }
  return encodeFloats(target, 'bf16');
}

/** What the server must know before it loads the rows. JSON texts are YAML texts too. */
function describeCheckpoint({ tokenCount, frozenCount }: Cartridge, { baseModel }: CheckpointOptions): string {
  return [
    'kv_cache_initializer:',
    `  max_tokens: ${tokenCount}`,
    `  num_frozen_tokens: ${frozenCount}`,
    'model:',
    `  pretrained_model_name_or_path: ${JSON.stringify(baseModel)}`,
    '',
  ].join('\n');
}

async function assertReplaceable(configPath: string, config: string): Promise<void> {
  const found = await readFile(configPath, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return config;
    throw toCartridgesError(error);
  });
  if (found === config) return;
  throw new CartridgesError('INVALID_OPTION', `${configPath} is there already and says something else`, {
    hint: 'write the checkpoint into a folder of its own: the server wants both files there',
  });
}

function findObstacles({ tokenCount, frozenCount }: Cartridge): string[] {
  return [
    ...(tokenCount % PAGE_TOKENS === 0
      ? []
      : [`${tokenCount} rows are not a multiple of ${PAGE_TOKENS}: Tokasaurus ends its worker when it loads them`]),
    ...(frozenCount > 0 ? [] : ['no row is frozen: neither Tokasaurus nor the Python project loads such a file']),
  ];
}
