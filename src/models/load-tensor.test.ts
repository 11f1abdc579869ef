import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot } from '../core/package.js';
import { GgmlType } from '../native/ggml.js';
import { quantize } from '../native/tensor-types.js';
import { Backend } from '../tensor/backend.js';
import type { StoredTensor } from '../tensor/tensor-store.js';
import { FrozenModel } from './frozen-model.js';
import { readGguf } from './gguf.js';
import { fittingType, weightBytes } from './weight-bytes.js';
import { WeightReader } from './weight-reader.js';

const HEAD = 'token_embd.weight';
const gguf = readGguf(join(packageRoot, 'models/pocket/pocket.gguf'));
const backend = new Backend({ device: 'cpu', threads: 1 });
let values: Float32Array;
beforeAll(async () => {
  const reader = await WeightReader.open(backend.engine, gguf);
  values = await reader.readFloats(HEAD, 0, gguf.tensors.get(HEAD)!.shape[1]!);
  await reader.close();
});
afterAll(() => backend.dispose());

function bytesOf(tensor: StoredTensor): Uint8Array {
  const { ggml } = backend.engine;
  const bytes = new Uint8Array(Number(ggml.ggml_row_size(tensor.type, tensor.shape[0])) * tensor.shape[1]);
  ggml.ggml_backend_tensor_get(tensor.handle, bytes, 0, bytes.length);
  return bytes;
}

test.each([
  ['F32', GgmlType.F32],
  ['BF16', GgmlType.BF16],
  ['Q8_0', GgmlType.Q8_0],
])('a large matrix in %s arrives piece by piece, in both orders', async (_name, type) => {
  const model = await FrozenModel.load(backend, gguf, { forward: type, transposed: type });
  const { embedding, vocabularySize } = model.config;
  // Several pieces, the last one smaller.
  expect(values.length).toBeGreaterThan(2 << 18);
  const { weight, transposed } = model.head;
  const isSame = (tensor: StoredTensor, expected: Uint8Array) => Buffer.compare(bytesOf(tensor), expected) === 0;
  expect(isSame(weight, quantize(backend.engine, fittingType(type, embedding), values, embedding))).toBe(true);
  const turned = Float32Array.from(values, (_, i) => values[(i % vocabularySize) * embedding + Math.floor(i / vocabularySize)]!);
  const turnedType = fittingType(type, vocabularySize);
  expect(transposed!.type).toBe(turnedType);
  expect(isSame(transposed!, quantize(backend.engine, turnedType, turned, vocabularySize))).toBe(true);
  expect(weightBytes(backend.engine, model.config, { forward: type, transposed: type })).toBe(model.byteLength);
  await model.dispose();
});

test('rows that lie apart hold the same values', async () => {
  const types = { forward: GgmlType.F32, transposed: undefined, spacesRows: true };
  const model = await FrozenModel.load(backend, gguf, types);
  const { weight } = model.head;
  const [columns, rows] = weight.shape;
  const rowBytes = columns * Float32Array.BYTES_PER_ELEMENT;
  expect(weight.rowBytes).toBeGreaterThan(rowBytes);
  const row = new Float32Array(columns);
  for (const index of [0, 1, Math.floor(rows / 2), rows - 1]) {
    backend.engine.ggml.ggml_backend_tensor_get(weight.handle, row, index * weight.rowBytes!, rowBytes);
    expect(row).toEqual(values.subarray(index * columns, (index + 1) * columns));
  }
  expect(weightBytes(backend.engine, model.config, types)).toBe(model.byteLength);
  await model.dispose();
});
