import type { GgmlBuffer, GgmlTensor } from './handles.js';
import { viewMemory } from './koffi.js';

/** Offsets in `struct ggml_tensor` of llama.cpp v0.5.0, in bytes. */
const OFFSET = { buffer: 8n, strides: 48n, data: 248n } as const;
const DIMENSIONS = 4;

/** Where the data of a tensor lies. */
export function dataAddress(tensor: GgmlTensor): bigint {
  return addressField(tensor)[0]!;
}

/** The field that holds the address of a tensor's data: writing it makes the tensor lie elsewhere. */
export function addressField(tensor: GgmlTensor): BigInt64Array {
  return field(tensor, OFFSET.data, 1);
}

/** Says in which buffer the data lies; ggml asks the buffer for its kind. */
export function setBuffer(tensor: GgmlTensor, buffer: GgmlBuffer): void {
  field(tensor, OFFSET.buffer, 1)[0] = buffer;
}

/** Sets the distances between neighbours along each dimension, innermost first, in bytes. */
export function setStrides(tensor: GgmlTensor, strides: readonly number[]): void {
  field(tensor, OFFSET.strides, DIMENSIONS).set(strides.map(BigInt));
}

function field(tensor: GgmlTensor, offset: bigint, count: number): BigInt64Array {
  return new BigInt64Array(viewMemory(tensor + offset, count * BigInt64Array.BYTES_PER_ELEMENT));
}
