/** Writes a dict of lists of tensors as a pickle of protocol 2, in the form that `torch.load(weights_only=True)` takes. */

/** A contiguous bf16 tensor that is the whole of one storage. */
export interface TensorReference {
  /** Name of the storage's entry under `data/`. */
  key: string;
  shape: readonly number[];
}

export function pickleTensorLists(lists: Readonly<Record<string, readonly TensorReference[]>>): Buffer {
  const items = Object.entries(lists).flatMap(([name, tensors]) => [text(name), tensorList(tensors)]);
  return Buffer.concat([Buffer.from([0x80, 2]), code('}('), ...items, code('u.')]);
}

function tensorList(tensors: readonly TensorReference[]): Buffer {
  return Buffer.concat([code(']('), ...tensors.map(tensor), code('e')]);
}

/** `_rebuild_tensor_v2(storage, offset, shape, strides, needs a gradient, hooks)`. */
function tensor({ key, shape }: TensorReference): Buffer {
  const length = shape.reduce((product, extent) => product * extent, 1);
  const strides = shape.map((_, axis) => shape.slice(axis + 1).reduce((product, extent) => product * extent, 1));
  return Buffer.concat([
    global('torch._utils', '_rebuild_tensor_v2'),
    code('('),
    tuple([text('storage'), global('torch', 'BFloat16Storage'), text(key), text('cpu'), integer(length)]),
    code('Q'),
    integer(0),
    tuple(shape.map(integer)),
    tuple(strides.map(integer)),
    Buffer.from([0x89]),
    global('collections', 'OrderedDict'),
    code(')R'),
    code('tR'),
  ]);
}

function code(operations: string): Buffer {
  return Buffer.from(operations, 'latin1');
}

function global(module: string, name: string): Buffer {
  return code(`c${module}\n${name}\n`);
}

function tuple(items: readonly Buffer[]): Buffer {
  return Buffer.concat([code('('), ...items, code('t')]);
}

function text(value: string): Buffer {
  const head = Buffer.from('X\0\0\0\0');
  const bytes = Buffer.from(value);
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

/** A number from 0 to 2³¹ − 1. */
function integer(value: number): Buffer {
  const head = Buffer.from('J\0\0\0\0');
  head.writeInt32LE(value, 1);
  return head;
}
