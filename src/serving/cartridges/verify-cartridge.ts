import { stat } from 'node:fs/promises';
import { type CartridgeHeader, readCartridgeHeader } from '../../cartridge/cartridge-file.js';
import { CartridgesError } from '../../core/errors.js';
import { formatBytes } from '../../core/format-bytes.js';
import { sha256File } from '../../core/hashing.js';
import { assertBelongsTo, type CartridgeModel, openCartridge } from '../../pipeline/open-cartridge.js';
import { RequestError, refusalFor } from '../request-error.js';
import type { CartridgeFile } from './shared-contents.js';

/** What a cartridge is checked against before it is used. */
export interface VerificationRules {
  session: CartridgeModel;
  /** Take cartridges of another quantisation of the served model. */
  allowQuantization: boolean;
  /** Tokens of one sequence of the engine: a cartridge has to leave room behind it. */
  maxSequenceTokens: number;
  maxFileBytes: number;
}

/** Reads and checks a whole file: format, model, framing, sizes, the hash of its rows. `sha256` when it is known already. */
export async function verifyCartridge(path: string, rules: VerificationRules, sha256?: string): Promise<CartridgeFile> {
  const header = await verifyHeader(path, rules);
  await openCartridge(path, rules.session, rules);
  return toFile(path, sha256 ?? (await sha256File(path)), header);
}

/** The same without the rows, for a file that was verified before: the engine's reading compares the hash. */
export async function verifyKnownCartridge(path: string, rules: VerificationRules, sha256: string): Promise<CartridgeFile> {
  return toFile(path, sha256, await verifyHeader(path, rules));
}

async function verifyHeader(path: string, rules: VerificationRules): Promise<CartridgeHeader> {
  await checkSize(path, rules.maxFileBytes);
  const header = await readCartridgeHeader(path);
  assertBelongsTo(header, path, rules.session, rules);
  if (header.tokenCount < rules.maxSequenceTokens) return header;
  throw new CartridgesError(
    'INVALID_CARTRIDGE',
    `${path} has ${header.tokenCount} rows, and a sequence of this server ${rules.maxSequenceTokens} tokens`,
    { hint: 'give the server a longer context' },
  );
}

async function checkSize(path: string, maxBytes: number): Promise<void> {
  const found = await stat(path).catch(() => undefined);
  if (found === undefined || found.size <= maxBytes) return;
  throw new CartridgesError('INVALID_CARTRIDGE', `${path} has ${formatBytes(found.size)}, more than ${formatBytes(maxBytes)}`);
}

function toFile(path: string, sha256: string, header: CartridgeHeader): CartridgeFile {
  const { model, tokenCount, frozenCount, storedAs, contentHash, fileSize: bytes } = header;
  return { path, sha256, bytes, model, tokenCount, frozenCount, storedAs, contentHash };
}

/** What a client reads of a cartridge that cannot be used: the reason, with its id in place of a path of this machine. */
export function toRefusal(thrown: unknown, id: string, path: string): unknown {
  if (!CartridgesError.is(thrown) || thrown instanceof RequestError) return thrown;
  if (!['INVALID_CARTRIDGE', 'CARTRIDGE_MISMATCH'].includes(thrown.code)) return thrown;
  return refusalFor(thrown, 400, { message: thrown.message.replaceAll(path, `the cartridge ${id}`) });
}
