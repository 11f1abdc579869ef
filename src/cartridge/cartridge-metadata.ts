import { z } from 'zod';
import type { CartridgesError } from '../core/errors.js';
import type { Cartridge } from './cartridge.js';
import { MAX_LAYERS } from './cartridge-checks.js';

/** The texts that a cartridge's file holds beside its tensors. */
export type Metadata = Readonly<Record<string, string>>;

/** Makes the error of whoever reads or writes metadata that are not usable. */
export type Refuse = (reason: string, cause?: unknown) => CartridgesError;

/** What the metadata say of a cartridge; the number of rows and their type are those of the tensors. */
export interface Described extends Pick<Cartridge, 'model' | 'framing' | 'frozenCount' | 'receipt'> {
  /** SHA-256 of the stored rows. */
  contentHash: string;
}

const FORMAT = 'cartridge';
/** The version of the format that is written, and the only one that is read. */
export const FORMAT_VERSION = 1;
/** Deepest nesting of a receipt: one that is deeper could not be written as JSON again. */
const MAX_RECEIPT_DEPTH = 64;

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

/** The metadata of a cartridge, checked as they are when they are read. Throws what `refuse` makes. */
export function encodeMetadata(cartridge: Cartridge, contentHash: string, refuse: Refuse): Metadata {
  const metadata = {
    format: FORMAT,
    format_version: String(FORMAT_VERSION),
    model: toJson(cartridge.model, 'model', refuse),
    framing: toJson(cartridge.framing, 'framing', refuse),
    positions: positions(cartridge.tokenCount),
    frozen_count: String(cartridge.frozenCount),
    receipt: toJson(cartridge.receipt, 'receipt', refuse),
    content_hash: contentHash,
  };
  decodeMetadata(metadata, refuse);
  return metadata;
}

/** The version that the metadata of a cartridge name. Throws what `refuse` makes for other files. */
export function readVersion(metadata: Metadata, refuse: Refuse): number {
  if (metadata['format'] !== FORMAT) throw refuse('it is a safetensors file of another kind');
  return Number(readText(metadata, 'format_version', /^\d{1,9}$/, refuse));
}

/** What metadata say, all but the positions checked. Throws what `refuse` makes. */
export function decodeMetadata(metadata: Metadata, refuse: Refuse): Described {
  return {
    model: readJson(metadata, 'model', modelSchema, refuse),
    framing: readJson(metadata, 'framing', framingSchema, refuse),
    frozenCount: Number(readText(metadata, 'frozen_count', /^\d{1,10}$/, refuse)),
    receipt: readJson(metadata, 'receipt', receiptSchema, refuse),
    contentHash: readText(metadata, 'content_hash', /^[0-9a-f]{64}$/, refuse),
  };
}

/** Throws what `refuse` makes unless the rows stand where those of a cartridge of this size do. */
export function checkPositions(metadata: Metadata, tokenCount: number, refuse: Refuse): void {
  const [found, expected] = [readText(metadata, 'positions', /./s, refuse), positions(tokenCount)];
  if (found !== expected) throw refuse(`its rows stand at positions ${found.slice(0, 80)}, expected ${expected}`);
}

/** Positions of the rows in a sequence, first and last; what follows a cartridge begins behind them. */
function positions(tokenCount: number): string {
  return `0-${tokenCount - 1}`;
}

function readText(metadata: Metadata, key: string, pattern: RegExp, refuse: Refuse): string {
  const text = Object.hasOwn(metadata, key) ? metadata[key]! : '';
  if (pattern.test(text)) return text;
  throw refuse(text === '' ? `its ${key} is missing` : `its ${key} cannot be "${text.slice(0, 80)}"`);
}

function readJson<T>(metadata: Metadata, key: string, schema: z.ZodType<T>, refuse: Refuse): T {
  const parsed = schema.safeParse(parseJson(readText(metadata, key, /./s, refuse), key, refuse));
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0]!;
  throw refuse(`its ${[key, ...issue.path].join('.')} is wrong: ${issue.message}`);
}

function parseJson(json: string, key: string, refuse: Refuse): unknown {
  try {
    return JSON.parse(json);
  } catch (error) {
    throw refuse(`its ${key} is not JSON`, error);
  }
}

/** JSON has no form for a value that contains itself, for a bigint, or for one that is nested too deep. */
function toJson(value: unknown, key: string, refuse: Refuse): string {
  try {
    return JSON.stringify(value);
  } catch (error) {
    throw refuse(`its ${key} has no form in JSON`, error);
  }
}

function isShallow(value: unknown, depth: number): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return depth > 0 && Object.values(value).every((inner) => isShallow(inner, depth - 1));
}
