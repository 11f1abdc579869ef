/**
 * f32 to and from the 16-bit floats, in arrays. Rounding is to nearest, ties to even, as in ggml and PyTorch; what is too large
 * becomes infinite, NaN stays NaN. Node 20 has no Float16Array, so 16-bit values are bit patterns in a Uint16Array. Bytes are
 * little endian, as is every platform of the engine.
 */

/** How the numbers of a cartridge are stored, in a file or in a cache. */
export type FloatType = 'f32' | 'f16' | 'bf16';

export const FLOAT_BYTES: Readonly<Record<FloatType, number>> = { f32: 4, f16: 2, bf16: 2 };

/** The bits of f16 infinity; larger magnitudes are NaN. */
const F16_INFINITY = 0x7c00;
/** Bits of the smallest f32 that is a normal f16, 2^−14, and of the first beyond all of them, 2^16. */
const F16_NORMAL_FROM = 0x38800000;
const F16_NORMAL_TO = 0x47800000;
const F32_INFINITY = 0x7f800000;

/** Encodes f32 values. For `f32` the bytes are a view of `values`, else a new array. */
export function encodeFloats(values: Float32Array, type: FloatType): Uint8Array {
  if (type === 'f32') return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const halves = new Uint16Array(values.length);
  encodeHalves(values, halves, type);
  return new Uint8Array(halves.buffer);
}

/** Encodes f32 values into an array of the same length. */
export function encodeHalves(values: Float32Array, target: Uint16Array, type: 'f16' | 'bf16'): void {
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  const convert = type === 'f16' ? toF16 : toBf16;
  for (let i = 0; i < bits.length; i++) target[i] = convert(bits[i]!);
}

/** Decodes bytes of any alignment into a new f32 array. */
export function decodeFloats(bytes: Uint8Array, type: FloatType): Float32Array {
  const { buffer } = new Uint8Array(bytes);
  if (type === 'f32') return new Float32Array(buffer);
  const halves = new Uint16Array(buffer);
  const values = new Float32Array(halves.length);
  if (type === 'f16') decodeF16(halves, values);
  else decodeBf16(halves, values);
  return values;
}

/** Largest magnitude that rounds to a finite number; half a step beyond the largest f16 or bf16 lies infinity already. */
const LARGEST: Readonly<Record<FloatType, number>> = {
  f32: 3.4028234663852886e38,
  f16: 65519.99609375,
  bf16: 3.396177326406364e38,
};

/** Whether every value is finite, and stays so when it is stored as `type`. */
export function allFinite(values: Float32Array, type: FloatType): boolean {
  const largest = LARGEST[type];
  // Written so that NaN fails.
  for (let i = 0; i < values.length; i++) if (!(Math.abs(values[i]!) <= largest)) return false;
  return true;
}

function toF16(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > F32_INFINITY) return sign | 0x7e00;
  if (magnitude >= F16_NORMAL_TO) return sign | F16_INFINITY;
  if (magnitude < F16_NORMAL_FROM) return sign | toF16Subnormal(magnitude);
  // A carry out of the mantissa raises the exponent, up to infinity: the wanted result.
  const rounded = magnitude + 0xfff + ((magnitude >>> 13) & 1);
  return sign | ((rounded - 0x38000000) >>> 13);
}

/** In steps of 2^−24. */
function toF16Subnormal(magnitude: number): number {
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return 0;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const steps = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const half = 1 << (shift - 1);
  return rest > half || (rest === half && (steps & 1) === 1) ? steps + 1 : steps;
}

function toBf16(bits: number): number {
  if ((bits & 0x7fffffff) > F32_INFINITY) return (bits >>> 16) | 0x40;
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
}

let f16Table: Float32Array | undefined;

function decodeF16(halves: Uint16Array, target: Float32Array): void {
  f16Table ??= Float32Array.from({ length: 1 << 16 }, (_, half) => fromF16(half));
  for (let i = 0; i < halves.length; i++) target[i] = f16Table[halves[i]!]!;
}

function fromF16(half: number): number {
  const sign = half & 0x8000 ? -1 : 1;
  const exponent = (half >>> 10) & 0x1f;
  const mantissa = half & 0x3ff;
  if (exponent === 0) return sign * mantissa * 2 ** -24;
  if (exponent === 0x1f) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (0x400 + mantissa) * 2 ** (exponent - 25);
}

function decodeBf16(halves: Uint16Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
}
