import { createHash } from 'node:crypto';
import { CartridgesError } from '../core/errors.js';
import type { Cartridge } from './cartridge.js';
import { checkCartridge, checkCounts } from './cartridge-checks.js';
import {
  checkPositions,
  decodeMetadata,
  encodeMetadata,
  FORMAT_VERSION,
  type Refuse,
  readVersion,
} from './cartridge-metadata.js';
import { allFinite, decodeFloats, encodeFloats, type FloatType } from './float-conversion.js';
import { SafetensorsFile, writeSafetensors } from './safetensors.js';

/**
 * The file of a cartridge: a safetensors container with tensors `layers.N.key` and `layers.N.value`, each [p, Hkv, D] in one
 * float type, and metadata that says all the rest.
 */

/** What a file says about its cartridge beside the rows. */
export interface CartridgeHeader extends Omit<Cartridge, 'keys' | 'values'> {
  storedAs: FloatType;
  /** SHA-256 of the stored rows. */
  contentHash: string;
  fileSize: number;
}

/**
 * Writes a cartridge atomically, its rows as `dtype`. Throws `INVALID_CARTRIDGE` for rows that are not finite or do not fit
 * the type and for whatever {@link readCartridge} would refuse, and `DISK_FULL`.
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
  await writeSafetensors(path, tensors, dtype, encodeMetadata(cartridge, contentHash.digest('hex'), unwritable));
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

function toHeader(file: SafetensorsFile): CartridgeHeader {
  const { path, metadata } = file;
  const refuse: Refuse = (reason, cause) => invalid(path, reason, cause);
  checkVersion(readVersion(metadata, refuse), path);
  const described = decodeMetadata(metadata, refuse);
  const { type: storedAs, shape } = file.entry(tensorNames(1)[0]!.name);
  const header: CartridgeHeader = { ...described, tokenCount: shape[0] ?? 0, storedAs, fileSize: file.fileSize };
  checkCounts(header, path);
  checkPositions(metadata, header.tokenCount, refuse);
  checkTensors(file, header);
  return header;
}

function checkVersion(version: number, path: string): void {
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

function unwritable(reason: string, cause?: unknown): CartridgesError {
  return new CartridgesError('INVALID_CARTRIDGE', `the cartridge cannot be written so that it can be read: ${reason}`, {
    hint: 'change what the message names; nothing was written',
    cause,
  });
}

function invalid(path: string, reason: string, cause?: unknown): CartridgesError {
  return new CartridgesError('INVALID_CARTRIDGE', `${path} is not a usable cartridge: ${reason}`, {
    hint: 'the file is damaged, or was not made by this program: get it again',
    cause,
  });
}
