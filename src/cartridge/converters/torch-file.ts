import { MAX_LAYER_VALUES } from '../cartridge-checks.js';
import { FLOAT_BYTES, type FloatType } from '../float-conversion.js';
import { invalidCheckpoint } from './invalid-checkpoint.js';
import { type PickleFunction, PickleObject, PickleTuple, unpickle } from './pickle-machine.js';
import { readZip } from './zip-reader.js';

/** A file of `torch.save`: a zip with one pickle of structure and one entry of raw numbers for each storage. */

const MAX_DIMENSIONS = 8;

/** A storage: `length` raw numbers, little endian. */
class TorchStorage {
  readonly type: FloatType;
  readonly length: number;
  readonly bytes: Uint8Array;

  constructor(type: FloatType, length: number, bytes: Uint8Array) {
    this.type = type;
    this.length = length;
    this.bytes = bytes;
  }
}

/** A view of a storage: no number of the storage stands in it twice. */
export class TorchTensor {
  readonly storage: TorchStorage;
  readonly offset: number;
  readonly shape: readonly number[];
  readonly strides: readonly number[];

  constructor(storage: TorchStorage, offset: number, shape: readonly number[], strides: readonly number[]) {
    this.storage = storage;
    this.offset = offset;
    this.shape = shape;
    this.strides = strides;
  }

  get length(): number {
    return product(this.shape);
  }
}

/** A `torch.nn.ParameterList`. */
export class TorchParameterList extends PickleObject {}

class StorageClass {
  readonly type: FloatType;

  constructor(type: FloatType) {
    this.type = type;
  }
}

/**
 * What a file holds: dicts as Maps, lists as arrays, tensors as {@link TorchTensor}, parameter lists as
 * {@link TorchParameterList}. Nothing in the file is executed. Throws `INVALID_CARTRIDGE` with what is wrong.
 */
export function readTorchFile(bytes: Uint8Array, path: string): unknown {
  const entries = readZip(bytes, path);
  const root = findRoot(entries, path);
  const order = entries.get(`${root}/byteorder`);
  if (order && Buffer.from(order).toString() !== 'little') throw invalidCheckpoint(path, 'its numbers are big endian');
  const storages = new StorageTable(path, (key) => entries.get(`${root}/data/${key}`));
  const world = { globals: globalsOf(path), persistent: (id: unknown) => storages.load(id) };
  return unpickle(entries.get(`${root}/data.pkl`)!, world, path);
}

/** All entries of a file lie in one folder, named as the file once was. */
function findRoot(entries: ReadonlyMap<string, Uint8Array>, path: string): string {
  const roots = [...entries.keys()].flatMap((name) => /^([^/]+)\/data\.pkl$/.exec(name)?.[1] ?? []);
  if (roots.length === 1) return roots[0]!;
  throw invalidCheckpoint(path, roots.length === 0 ? 'it has no data.pkl: torch did not write it' : 'it has several data.pkl');
}

/** Everything that a checkpoint may name. */
function globalsOf(path: string): ReadonlyMap<string, unknown> {
  return new Map<string, unknown>([
    ['torch FloatStorage', new StorageClass('f32')],
    ['torch HalfStorage', new StorageClass('f16')],
    ['torch BFloat16Storage', new StorageClass('bf16')],
    ['torch._utils _rebuild_tensor_v2', ((args) => rebuildTensor(args, path)) satisfies PickleFunction],
    ['torch._utils _rebuild_parameter', (([tensor]) => parameterOf(tensor, path)) satisfies PickleFunction],
    ['torch.nn.modules.container ParameterList', (() => new TorchParameterList()) satisfies PickleFunction],
    ['collections OrderedDict', (() => new Map()) satisfies PickleFunction],
    // Attributes of a ParameterList that nothing here reads.
    ['__builtin__ set', (() => new Set()) satisfies PickleFunction],
  ]);
}

/** The storages of one file, each one object: tensors that share one are seen to share it. */
class StorageTable {
  readonly #path: string;
  readonly #bytesOf: (key: string) => Uint8Array | undefined;
  readonly #storages = new Map<string, TorchStorage>();

  constructor(path: string, bytesOf: (key: string) => Uint8Array | undefined) {
    this.#path = path;
    this.#bytesOf = bytesOf;
  }

  /** A persistent id is ("storage", class, key, device, numbers). */
  load(id: unknown): TorchStorage {
    const [kind, storageClass, key, , length] = id instanceof PickleTuple ? id.items : [];
    if (kind !== 'storage' || !(storageClass instanceof StorageClass) || typeof key !== 'string' || !isCount(length)) {
      throw invalidCheckpoint(this.#path, 'it refers to a storage in an unknown way');
    }
    const storage = this.#storages.get(key) ?? this.#open(key, storageClass.type, length);
    if (storage.type === storageClass.type && storage.length === length) return storage;
    throw invalidCheckpoint(this.#path, `its storage ${key} is of two types or sizes`);
  }

  #open(key: string, type: FloatType, length: number): TorchStorage {
    const bytes = this.#bytesOf(key);
    const expected = length * FLOAT_BYTES[type];
    if (bytes?.length !== expected) {
      const found = bytes?.length ?? 'no';
      throw invalidCheckpoint(this.#path, `its storage ${key.slice(0, 80)} has ${found} bytes, and ${expected} by its size`);
    }
    const storage = new TorchStorage(type, length, bytes);
    this.#storages.set(key, storage);
    return storage;
  }
}

/** The arguments are (storage, offset, shape, strides, needs a gradient, hooks). */
function rebuildTensor([storage, offset, shape, strides]: readonly unknown[], path: string): TorchTensor {
  const [extents, steps] = [countsOf(shape), countsOf(strides)];
  const isWhole = storage instanceof TorchStorage && isCount(offset) && extents && steps && extents.length === steps.length;
  if (!isWhole || extents.length > MAX_DIMENSIONS)
    throw invalidCheckpoint(path, 'it has a tensor without storage, shape or strides');
  const length = product(extents);
  if (length > MAX_LAYER_VALUES)
    throw invalidCheckpoint(path, `it has a tensor of ${length} numbers, more than ${MAX_LAYER_VALUES}`);
  const last = extents.reduce((sum, extent, axis) => sum + (extent - 1) * steps[axis]!, offset);
  if (length > 0 && last >= storage.length) throw invalidCheckpoint(path, 'it has a tensor that reaches beyond its storage');
  if (length > 0 && !isInjective(extents, steps)) throw invalidCheckpoint(path, 'it has a tensor that overlaps itself');
  return new TorchTensor(storage, offset, extents, steps);
}

function parameterOf(tensor: unknown, path: string): TorchTensor {
  if (tensor instanceof TorchTensor) return tensor;
  throw invalidCheckpoint(path, 'it has a parameter that is no tensor');
}

/** Whether each stride, from the smallest on, steps over all that the ones before it reach. */
function isInjective(extents: readonly number[], strides: readonly number[]): boolean {
  const axes = extents.map((extent, axis) => ({ extent, stride: strides[axis]! })).filter(({ extent }) => extent > 1);
  let reach = 1;
  return axes
    .sort((a, b) => a.stride - b.stride)
    .every(({ extent, stride }) => {
      const stepsOver = stride >= reach;
      reach += (extent - 1) * stride;
      return stepsOver;
    });
}

function countsOf(value: unknown): number[] | undefined {
  return value instanceof PickleTuple && value.items.every(isCount) ? (value.items as number[]) : undefined;
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

function product(extents: readonly number[]): number {
  return extents.reduce((result, extent) => result * extent, 1);
}
