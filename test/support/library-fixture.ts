import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Cartridge } from '../../src/cartridge/cartridge.js';
import { writeCartridge } from '../../src/cartridge/cartridge-file.js';
import { fingerprintOf } from '../../src/cartridge/fingerprint.js';
import { packageRoot } from '../../src/core/package.js';
import { Random } from '../../src/core/random.js';
import type { CartridgeHandle, CartridgeSource } from '../../src/inference/cartridge-handle.js';
import type { ChatFraming } from '../../src/models/chat-framing.js';
import { readGguf } from '../../src/models/gguf.js';
import type { CartridgeModel } from '../../src/pipeline/open-cartridge.js';
import type { Caller } from '../../src/serving/caller.js';
import type { CartridgeReference } from '../../src/serving/cartridges/cartridge-library.js';
import type { CartridgeEngine } from '../../src/serving/cartridges/shared-contents.js';

/** What cartridges of the pocket model belong to: its real fingerprint, and a stamp in place of its framing. */
export const POCKET: CartridgeModel = (() => {
  const gguf = readGguf(join(packageRoot, 'models', 'pocket', 'pocket.gguf'));
  const framing = { name: 'pocket', hash: 'f'.repeat(64) } as ChatFraming;
  return { fingerprint: fingerprintOf(gguf, 'e'.repeat(64)), framing };
})();

export async function temporaryFolder(): Promise<{ path: string; remove(): Promise<void> }> {
  const path = await mkdtemp(join(tmpdir(), 'cartridges-library-'));
  return { path, remove: () => rm(path, { recursive: true, force: true }) };
}

/** A cartridge of the pocket model, or of another, with seeded rows. */
export function pocketCartridge(seed: number, { fingerprint, framing }: CartridgeModel = POCKET): Cartridge {
  const tokenCount = 4;
  const random = new Random(seed);
  const length = tokenCount * fingerprint.kvHeads * fingerprint.headDimension;
  const layers = () =>
    Array.from({ length: fingerprint.layers }, () => Float32Array.from({ length }, () => Math.fround(random.normal())));
  return {
    model: fingerprint,
    framing: { name: framing.name, hash: framing.hash },
    tokenCount,
    frozenCount: 1,
    keys: layers(),
    values: layers(),
    receipt: { createdBy: 'a test', createdAt: '2025-01-01T00:00:00.000Z', initializer: 'random', chunks: 'x'.repeat(5000) },
  };
}

/** The file of a cartridge. */
export async function fileBytes(cartridge: Cartridge): Promise<Buffer> {
  const folder = await temporaryFolder();
  const path = join(folder.path, 'c.safetensors');
  await writeCartridge(path, cartridge, { dtype: 'f32' });
  const bytes = await readFile(path);
  await folder.remove();
  return bytes;
}

/** The files of two cartridges with other rows. */
export function twoFiles(): Promise<[Buffer, Buffer]> {
  return Promise.all([fileBytes(pocketCartridge(1)), fileBytes(pocketCartridge(2))]);
}

export function callerOf(scope: string, ids: readonly string[] | 'all', isAdmin = false): Caller {
  return { scope, isAdmin, mayUse: (id) => ids === 'all' || ids.includes(id), ...(ids !== 'all' && { names: new Set(ids) }) };
}

export const ADMIN: Caller = callerOf('admin', 'all', true);

export function refer(id: string, more: Partial<CartridgeReference> = {}): CartridgeReference {
  return { id, source: 'local', forceRedownload: false, ...more };
}

export function streamOf(bytes: Uint8Array, pieceBytes = 1 << 14): ReadableStream<Uint8Array> {
  let position = 0;
  return new ReadableStream({
    pull(controller) {
      if (position >= bytes.length) return controller.close();
      controller.enqueue(bytes.subarray(position, position + pieceBytes));
      position += pieceBytes;
    },
  });
}

/**
 * An engine that keeps books in place of a cache: no handle may be used that is not known, none may be removed twice, and none
 * that a test says is in use.
 */
export class BookkeepingEngine implements CartridgeEngine {
  readonly maxSequenceTokens: number = 512;
  readonly known = new Map<CartridgeHandle, CartridgeSource>();
  readonly resident = new Map<CartridgeHandle, Cartridge>();
  readonly inUse = new Set<CartridgeHandle>();
  readonly mistakes: string[] = [];

  addCartridge(source: CartridgeSource): CartridgeHandle {
    if ([...this.known.values()].some(({ key }) => key === source.key)) this.mistakes.push(`${source.key} is added twice`);
    const handle = { key: source.key, tokenCount: source.tokenCount } as CartridgeHandle;
    this.known.set(handle, source);
    return handle;
  }

  async removeCartridge(handle: CartridgeHandle): Promise<void> {
    if (!this.known.delete(handle)) this.mistakes.push(`${handle.key} is removed without being known`);
    if (this.inUse.has(handle)) this.mistakes.push(`${handle.key} is removed while in use`);
    this.resident.delete(handle);
  }

  async preload(handle: CartridgeHandle): Promise<void> {
    const source = this.known.get(handle);
    if (!source) throw new Error(`${handle.key} is not known`);
    if (!this.resident.has(handle)) this.resident.set(handle, await source.read());
  }

  async evict(handle: CartridgeHandle): Promise<boolean> {
    if (this.inUse.has(handle)) return false;
    return this.resident.delete(handle);
  }

  isResident(handle: CartridgeHandle): boolean {
    return this.resident.has(handle);
  }

  /** The rows that a request with this handle would see, read if need be. */
  async firstKey(handle: CartridgeHandle | undefined): Promise<number> {
    await this.preload(handle!);
    return this.resident.get(handle!)!.keys[0]![0]!;
  }
}
