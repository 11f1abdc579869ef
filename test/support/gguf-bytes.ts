/** Writes small GGUF files for tests, right or wrong in one place as a test wants. */

export type MetadataEntry = [key: string, type: number, value: number | bigint | string | boolean | ArrayEntry];

export interface ArrayEntry {
  type: number;
  values: readonly (number | bigint | string | boolean)[];
  /** Instead of the true number of values. */
  length?: bigint;
}

export interface TensorEntry {
  name: string;
  shape: readonly (number | bigint)[];
  type: number;
  offset: number | bigint;
}

export interface GgufParts {
  magic?: string;
  version?: number;
  tensorCount?: bigint;
  keyCount?: bigint;
  metadata?: MetadataEntry[];
  tensors?: TensorEntry[];
  alignment?: number;
  /** Bytes behind the aligned header. */
  dataBytes?: number;
}

export function ggufBytes(parts: GgufParts): Buffer {
  const { metadata = [], tensors = [], alignment = 32, dataBytes = 0 } = parts;
  const header = Buffer.concat([
    Buffer.from(parts.magic ?? 'GGUF'),
    u32(parts.version ?? 3),
    u64(parts.tensorCount ?? tensors.length),
    u64(parts.keyCount ?? metadata.length),
    ...metadata.flatMap(([key, type, value]) => [
      text(key),
      u32(type),
      typeof value === 'object' ? array(value) : scalar(type, value),
    ]),
    ...tensors.flatMap(({ name, shape, type, offset }) => [
      text(name),
      u32(shape.length),
      ...shape.map(u64),
      u32(type),
      u64(offset),
    ]),
  ]);
  return Buffer.concat([header, Buffer.alloc((alignment - (header.length % alignment)) % alignment), Buffer.alloc(dataBytes)]);
}

function array({ type, values, length }: ArrayEntry): Buffer {
  return Buffer.concat([u32(type), u64(length ?? values.length), ...values.map((value) => scalar(type, value))]);
}

const WRITERS: Record<number, (buffer: Buffer, value: number) => unknown> = {
  0: (buffer, value) => buffer.writeUInt8(value),
  1: (buffer, value) => buffer.writeInt8(value),
  2: (buffer, value) => buffer.writeUInt16LE(value),
  3: (buffer, value) => buffer.writeInt16LE(value),
  4: (buffer, value) => buffer.writeUInt32LE(value),
  5: (buffer, value) => buffer.writeInt32LE(value),
  6: (buffer, value) => buffer.writeFloatLE(value),
  7: (buffer, value) => buffer.writeUInt8(value),
  10: (buffer, value) => buffer.writeBigUInt64LE(BigInt(value)),
  11: (buffer, value) => buffer.writeBigInt64LE(BigInt(value)),
  12: (buffer, value) => buffer.writeDoubleLE(value),
};

const BYTES: Record<number, number> = { 0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8 };

function scalar(type: number, value: number | bigint | string | boolean): Buffer {
  if (typeof value === 'string') return text(value);
  const buffer = Buffer.alloc(BYTES[type] ?? 0);
  WRITERS[type]?.(buffer, value as number);
  return buffer;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([u64(bytes.length), bytes]);
}

function u32(value: number): Buffer {
  const buffer = Buffer.alloc(4);
  buffer.writeUInt32LE(value);
  return buffer;
}

function u64(value: number | bigint): Buffer {
  const buffer = Buffer.alloc(8);
  buffer.writeBigUInt64LE(BigInt(value));
  return buffer;
}
