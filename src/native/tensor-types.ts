import { CartridgesError } from '../core/errors.js';
import { type Ggml, GgmlType } from './ggml.js';
import { koffi } from './koffi.js';

const toFloatPrototype = koffi.proto('void cartridges_to_float(const void *source, void *target, int64_t count)');

/** Dequantises `count` values of a ggml type into f32. Throws `UNSUPPORTED_MODEL` for a type without a conversion. */
export function dequantize(engine: { ggml: Ggml }, type: number, bytes: Uint8Array, count: number): Float32Array {
  if (type === GgmlType.F32) return new Float32Array(bytes.slice().buffer, 0, count);
  const traits = traitsOf(engine, type);
  if (!traits.to_float)
    throw new CartridgesError('UNSUPPORTED_MODEL', `weights of type ${traits.type_name} cannot be dequantised`);
  const values = new Float32Array(count);
  koffi.call(traits.to_float, toFloatPrototype, bytes, values, count);
  return values;
}

/**
 * Whether {@link quantize} knows a quantised type: ggml ends the process over one that is made for activations alone, and some want
 * to know how important each value is.
 */
export function canQuantize(engine: { ggml: Ggml }, type: number): boolean {
  return traitsOf(engine, type).to_float !== null && !engine.ggml.ggml_quantize_requires_imatrix(type);
}

function traitsOf({ ggml }: { ggml: Ggml }, type: number): { to_float: bigint | null; type_name: string } {
  return koffi.decode(ggml.ggml_get_type_traits(type), 'ggml_type_traits') as { to_float: bigint | null; type_name: string };
}

/** Converts f32 rows of `perRow` values into a ggml type; the bytes are as ggml stores them. */
export function quantize(engine: { ggml: Ggml }, type: number, values: Float32Array, perRow: number): Uint8Array {
  if (type === GgmlType.F32) return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  if (type === GgmlType.F16 || type === GgmlType.BF16) {
    const halves = new Uint16Array(values.length);
    const convert = type === GgmlType.F16 ? engine.ggml.ggml_fp32_to_fp16_row : engine.ggml.ggml_fp32_to_bf16_row;
    convert(values, halves, values.length);
    return new Uint8Array(halves.buffer);
  }
  const rows = values.length / perRow;
  const bytes = new Uint8Array(Number(engine.ggml.ggml_row_size(type, perRow)) * rows);
  engine.ggml.ggml_quantize_chunk(type, values, bytes, 0, rows, perRow, null);
  return bytes;
}
