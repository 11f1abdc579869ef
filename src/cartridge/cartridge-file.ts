import { createHash } from 'node:crypto';
import { z } from 'zod';
import { CartridgesError } from '../core/errors.js';
import type { Cartridge } from './cartridge.js';
import { checkCartridge, checkCounts, MAX_LAYERS } from './cartridge-checks.js';
import { allFinite, decodeFloats, encodeFloats, type FloatType } from './float-conversion.js';
import { SafetensorsFile, writeSafetensors } from './safetensors.js';

/**
 * The file of a cartridge: a safetensors container with tensors `layers.N.key` and `layers.N.value`, each [p, Hkv, D] in one
 * float type, and metadata that says all the rest.
 */

const FORMAT = 'cartridge';
const FORMAT_VERSION = 1;
/** Deepest nesting of a receipt: one that is deeper could not be written as JSON again. */
const MAX_RECEIPT_DEPTH = 64;

/** What a file says about its cartridge beside the rows. */
export interface CartridgeHeader extends Omit<Cartridge, 'keys' | 'values'> {
  storedAs: FloatType;
  /** SHA-256 of the stored rows. */
  contentHash: string;
  fileSize: number;
}

const name = z.string().min(1).max(256);
const hash = z.string().regex(/^[0-9a-f]{64}$/);
const count = z
  .int()
  .min(1)
  .max(2 ** 31 - 1);

const modelSchema = z.strictObject({
  architecture: name,
  layers: count.max(MAX_LAYERS),
  kvHeads: count,
  headDimension: count,
  embedding: count,
  vocabularySize: count,
  tokenizerHash: hash,
  ropeBase: z.number().positive(),
  ropeScalingHash: hash,
  quantization: name,
  weightsHash: hash,
});

const framingSchema = z.strictObject({ name, hash });

const receiptSchema = z
  .looseObject({ createdBy: z.string(), createdAt: z.string(), initializer: z.string() })
  .refine((receipt) => isShallow(receipt, MAX_RECEIPT_DEPTH), `nested more than ${MAX_RECEIPT_DEPTH} deep`);

/**
 * Writes a cartridge atomically, its rows as `dtype`. Throws `INVALID_CARTRIDGE` for rows that are not finite or do not fit
 * the type, and `DISK_FULL`.
 *
 * @example
 * await writeCartridge('notes.cartridge.safetensors', cartridge, { dtype: 'bf16' });
 */
export async function writeCartridge(path: string, cartridge: Cartridge, options: { dtype: FloatType }): Promise<void> {
  const { dtype } = options;
  checkCartridge(cartridge, { keys: dtype, values: dtype }, 'the cartridge');
  const { model, tokenCount } = cartridge;
  const shape = [tokenCount, model.kvHeads, model.headDimension];
  const tensors = tensorNames(model.layers).map(({ name, kind, layer }) => {
    return { name, shape, bytes: encodeFloats(cartridge[kind][layer]!, dtype) };
  });
  const contentHash = createHash('sha256');
  for (const { bytes } of tensors) contentHash.update(bytes);
  await writeSafetensors(path, tensors, dtype, toMetadata(cartridge, contentHash.digest('hex')));
}

/**
 * Reads a cartridge and verifies all of it: header, sizes, the hash of the rows, and that they are finite.
 * Throws `FILE_NOT_FOUND`, or `INVALID_CARTRIDGE` with what is wrong.
 */
export async function readCartridge(path: string): Promise<Cartridge> {
  const file = await SafetensorsFile.open(path);
  try {
    const { storedAs, contentHash, fileSize: _, ...described } = toHeader(file);
    return { ...described, ...(await readRows(file, described.model.layers, storedAs, contentHash)) };
  } finally {
    await file.close();
  }
}

/** Reads what a file says about its cartridge, without the rows: they stay unread and their hash unverified. */
export async function readCartridgeHeader(path: string): Promise<CartridgeHeader> {
  const file = await SafetensorsFile.open(path);
  try {
    return toHeader(file);
  } finally {
    await file.close();
  }
}

async function readRows(
  file: SafetensorsFile,
  layers: number,
  type: FloatType,
  contentHash: string,
): Promise<Pick<Cartridge, 'keys' | 'values'>> {
  const rows: Pick<Cartridge, 'keys' | 'values'> = { keys: [], values: [] };
  const found = createHash('sha256');
  for (const { name, kind } of tensorNames(layers)) {
    const bytes = await file.readBytes(name);
    found.update(bytes);
    const values = decodeFloats(bytes, type);
    if (!allFinite(values, 'f32')) throw invalid(file.path, `${name} holds infinite values or such that are no numbers`);
    rows[kind].push(values);
  }
  if (found.digest('hex') !== contentHash) throw invalid(file.path, 'its rows are not those that were written');
  return rows;
}

function toMetadata(cartridge: Cartridge, contentHash: string): Record<string, string> {
  return {
    format: FORMAT,
    format_version: String(FORMAT_VERSION),
    model: JSON.stringify(cartridge.model),
    framing: JSON.stringify(cartridge.framing),
    positions: positions(cartridge.tokenCount),
    frozen_count: String(cartridge.frozenCount),
    receipt: JSON.stringify(cartridge.receipt),
    content_hash: contentHash,
  };
}

function toHeader(file: SafetensorsFile): CartridgeHeader {
  const { path, metadata } = file;
  checkFormat(metadata, path);
  const model = readJson(metadata, 'model', modelSchema, path);
  const { type: storedAs, shape } = file.entry(tensorNames(1)[0]!.name);
  const header: CartridgeHeader = {
    model,
    framing: readJson(metadata, 'framing', framingSchema, path),
    tokenCount: shape[0] ?? 0,
    frozenCount: Number(readText(metadata, 'frozen_count', /^\d{1,10}$/, path)),
    receipt: readJson(metadata, 'receipt', receiptSchema, path),
    storedAs,
    contentHash: readText(metadata, 'content_hash', /^[0-9a-f]{64}$/, path),
    fileSize: file.fileSize,
  };
  checkCounts(header, path);
  if (metadata['positions'] !== positions(header.tokenCount)) {
    throw invalid(path, `its rows stand at positions ${metadata['positions']}, expected ${positions(header.tokenCount)}`);
  }
  checkTensors(file, header);
  return header;
}

function checkFormat(metadata: Readonly<Record<string, string>>, path: string): void {
  if (metadata['format'] !== FORMAT) throw invalid(path, 'it is a safetensors file of another kind');
  const version = Number(readText(metadata, 'format_version', /^\d{1,9}$/, path));
  if (version === FORMAT_VERSION) return;
  throw new CartridgesError(
    'INVALID_CARTRIDGE',
    `${path} is a cartridge of format version ${version}, this program reads version ${FORMAT_VERSION}`,
    { hint: 'update cartridges to a version that reads it' },
  );
}

function checkTensors(file: SafetensorsFile, { model, tokenCount, storedAs }: CartridgeHeader): void {
  const expected = [tokenCount, model.kvHeads, model.headDimension];
  const names = tensorNames(model.layers);
  for (const { name } of names) {
    const { shape, type } = file.entry(name);
    if (shape.length !== 3 || !expected.every((extent, axis) => shape[axis] === extent)) {
      throw invalid(file.path, `${name} is [${shape}], expected [${expected}]`);
    }
    if (type !== storedAs) throw invalid(file.path, `${name} is stored as ${type}, other tensors as ${storedAs}`);
  }
  if (file.tensors.size !== names.length) throw invalid(file.path, `it has ${file.tensors.size} tensors, not ${names.length}`);
}

/** The tensors of a cartridge in the order of the file. */
function tensorNames(layers: number): { name: string; kind: 'keys' | 'values'; layer: number }[] {
  return Array.from({ length: layers }, (_, layer) => [
    { name: `layers.${layer}.key`, kind: 'keys' as const, layer },
    { name: `layers.${layer}.value`, kind: 'values' as const, layer },
  ]).flat();
}

/** Positions of the rows in a sequence, first and last; what follows a cartridge begins behind them. */
function positions(tokenCount: number): string {
  return `0-${tokenCount - 1}`;
}

function readText(metadata: Readonly<Record<string, string>>, key: string, pattern: RegExp, path: string): string {
  const text = Object.hasOwn(metadata, key) ? metadata[key]! : '';
  if (pattern.test(text)) return text;
  throw invalid(path, text === '' ? `its ${key} is missing` : `its ${key} cannot be "${text.slice(0, 80)}"`);
}

function readJson<T>(metadata: Readonly<Record<string, string>>, key: string, schema: z.ZodType<T>, path: string): T {
  const parsed = schema.safeParse(parseJson(readText(metadata, key, /./s, path), key, path));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw invalid(path, `its ${[key, ...issue.path].join('.')} is wrong: ${issue.message}`);
}

function parseJson(json: string, key: string, path: string): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw invalid(path, `its ${key} is not JSON`, error);
  }
}

function isShallow(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1));
}

function invalid(path: string, reason: string, cause?: unknown): CartridgesError {
  return new CartridgesError('INVALID_CARTRIDGE', `${path} is not a usable cartridge: ${reason}`, {
    hint: 'the file is damaged, or was not made by this program: get it again',
    cause,
  });
}
