import { MAX_LAYERS } from '../cartridge-checks.js';
import { decodeFloats, FLOAT_BYTES, type FloatType } from '../float-conversion.js';
import { invalidCheckpoint } from './invalid-checkpoint.js';
import { readTorchFile, TorchParameterList, TorchTensor } from './torch-file.js';

/**
 * Cartridges as the Python project saves them: a dict of four lists with a tensor [1, Hkv, rows, D] for each layer. The frozen
 * rows come first; their lists are empty where there are none, and older files call them `fixed`.
 */

const KINDS = ['keys', 'values'] as const;
type Kind = (typeof KINDS)[number];

/** What a checkpoint holds: per layer [p, Hkv, D], keys in Hugging Face's order. It does not say which model it belongs to. */
export interface CheckpointRows {
  /** The number type in the file. */
  type: FloatType;
  kvHeads: number;
  headDimension: number;
  tokenCount: number;
  frozenCount: number;
  keys: Float32Array[];
  values: Float32Array[];
}

/** The rows in the bytes of a checkpoint, any number among them. Throws `INVALID_CARTRIDGE` with what is wrong. */
export function parseCheckpoint(bytes: Uint8Array, path: string): CheckpointRows {
  const lists = findLists(readTorchFile(bytes, path), path);
  const [first] = lists.trainable.keys;
  if (!first) throw invalidCheckpoint(path, 'it has no layers');
  const [, kvHeads = 0, trainable = 0, headDimension = 0] = first.shape;
  if (kvHeads * headDimension === 0) throw invalidCheckpoint(path, `its tensors [${first.shape}] have rows of no size`);
  const frozenCount = lists.frozen.keys[0]?.shape[2] ?? 0;
  const { type } = first.storage;
  const expected = { trainable: [1, kvHeads, trainable, headDimension], frozen: [1, kvHeads, frozenCount, headDimension] };
  checkLists(lists, expected, type, path);
  const rowsOf = (kind: Kind) =>
    lists.trainable[kind].map((rest, layer) => {
      const frozen = lists.frozen[kind][layer];
      return decodeFloats(Buffer.concat([...(frozen ? [rowBytes(frozen)] : []), rowBytes(rest)]), type);
    });
  const tokenCount = frozenCount + trainable;
  return { type, kvHeads, headDimension, tokenCount, frozenCount, keys: rowsOf('keys'), values: rowsOf('values') };
}

type Lists = Record<'trainable' | 'frozen', Record<Kind, TorchTensor[]>>;

function findLists(root: unknown, path: string): Lists {
  if (!(root instanceof Map)) throw invalidCheckpoint(path, 'it holds no dict');
  const frozenName = root.has('fixed_keys') ? 'fixed' : 'frozen';
  const lists = (part: string) => ({
    keys: tensorsOf(root.get(`${part}_keys`), `${part}_keys`, path),
    values: tensorsOf(root.get(`${part}_values`), `${part}_values`, path),
  });
  const found = { trainable: lists('trainable'), frozen: lists(frozenName) };
  if (root.size !== 4) throw invalidCheckpoint(path, `it holds ${root.size} things, not the four lists of a cartridge`);
  return found;
}

/** A plain list of tensors, or a parameter list, whose parameters are named by their place. */
function tensorsOf(value: unknown, name: string, path: string): TorchTensor[] {
  const items = value instanceof TorchParameterList ? parametersOf(value) : value;
  if (Array.isArray(items) && items.length <= MAX_LAYERS && items.every((item) => item instanceof TorchTensor)) return items;
  throw invalidCheckpoint(
    path,
    `its ${name} ${value === undefined ? 'are missing' : `are no list of at most ${MAX_LAYERS} tensors`}`,
  );
}

function parametersOf({ attributes }: TorchParameterList): unknown[] {
  const parameters = attributes?.get('_parameters');
  if (!(parameters instanceof Map)) return [];
  return Array.from({ length: parameters.size }, (_, index) => parameters.get(String(index)));
}

/** All layers of a part must have its shape, and all together no more numbers than their storages. */
function checkLists(lists: Lists, shapes: Record<'trainable' | 'frozen', number[]>, type: FloatType, path: string): void {
  const layers = lists.trainable.keys.length;
  const left = new Map<TorchTensor['storage'], number>();
  for (const part of ['trainable', 'frozen'] as const) {
    for (const kind of KINDS) {
      const tensors = lists[part][kind];
      const expected = part === 'frozen' && lists.frozen.keys.length === 0 ? 0 : layers;
      if (tensors.length !== expected)
        throw invalidCheckpoint(path, `its ${part} ${kind} have ${tensors.length} layers, not ${expected}`);
      for (const tensor of tensors) checkTensor(tensor, shapes[part], type, left, `its ${part} ${kind}`, path);
    }
  }
}

function checkTensor(
  tensor: TorchTensor,
  shape: readonly number[],
  type: FloatType,
  left: Map<TorchTensor['storage'], number>,
  what: string,
  path: string,
): void {
  if (tensor.shape.length !== 4 || !shape.every((extent, axis) => tensor.shape[axis] === extent)) {
    throw invalidCheckpoint(path, `${what} have a tensor [${tensor.shape}] where [${shape}] is expected`);
  }
  const { storage } = tensor;
  if (storage.type !== type) throw invalidCheckpoint(path, `${what} are in ${storage.type}, others in ${type}`);
  const rest = (left.get(storage) ?? storage.length) - tensor.length;
  if (rest < 0) throw invalidCheckpoint(path, 'several tensors share the same numbers');
  left.set(storage, rest);
}

/** A tensor [1, Hkv, n, D] as bytes [n, Hkv, D] of its type; contiguous heads are copied in one piece. */
function rowBytes({ storage, offset, shape, strides }: TorchTensor): Buffer {
  const [, heads, rows, dimension] = shape as [number, number, number, number];
  const [, headStride, rowStride, step] = strides as [number, number, number, number];
  const width = FLOAT_BYTES[storage.type];
  const target = Buffer.alloc(rows * heads * dimension * width);
  const run = step === 1 ? dimension : 1;
  let at = 0;
  for (let row = 0; row < rows; row++) {
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < dimension; i += run) {
        const from = (offset + head * headStride + row * rowStride + i * step) * width;
        target.set(storage.bytes.subarray(from, from + run * width), at);
        at += run * width;
      }
    }
  }
  return target;
}
