import type { Cartridge } from '../../cartridge/cartridge.js';
import { type CartridgeHeader, readCartridge } from '../../cartridge/cartridge-file.js';
import { CartridgesError } from '../../core/errors.js';
import { sha256File } from '../../core/hashing.js';
import type { CartridgeHandle } from '../../inference/cartridge-handle.js';
import type { InferenceEngine } from '../../inference/inference-engine.js';

/** What the library needs of an engine. */
export type CartridgeEngine = Pick<
  InferenceEngine,
  'addCartridge' | 'removeCartridge' | 'preload' | 'evict' | 'isResident' | 'maxSequenceTokens'
>;

/** A verified file. */
export interface CartridgeFile
  extends Pick<CartridgeHeader, 'model' | 'tokenCount' | 'frozenCount' | 'storedAs' | 'contentHash'> {
  /** Changes when the file is set aside for the requests that still use it. */
  path: string;
  readonly sha256: string;
  readonly bytes: number;
}

/** One hold on a content: its handle is good until the release. A second release does nothing. */
export interface ContentHold {
  readonly handle: CartridgeHandle;
  release(): void;
}

interface Content {
  handle: CartridgeHandle;
  /** Holds on each file with this content. */
  holds: Map<CartridgeFile, number>;
}

/**
 * The contents that an engine knows, each once for all files and requests with the same bytes. A content is added with the
 * first hold and removed with the last; so is each of its files, and the engine reads from any that is held.
 */
export class SharedContents {
  readonly #engine: CartridgeEngine;
  readonly #onFileUnused: (file: CartridgeFile) => void;
  readonly #onRemoved: (removal: Promise<void>) => void;
  readonly #contents = new Map<string, Content>();

  constructor(
    engine: CartridgeEngine,
    listeners: { onFileUnused(file: CartridgeFile): void; onRemoved(removal: Promise<void>): void },
  ) {
    this.#engine = engine;
    this.#onFileUnused = listeners.onFileUnused;
    this.#onRemoved = listeners.onRemoved;
  }

  hold(file: CartridgeFile): ContentHold {
    const content = this.#contents.get(file.sha256) ?? this.#add(file);
    content.holds.set(file, this.holdsOn(file) + 1);
    let held = true;
    const release = () => {
      if (held) this.#release(content, file);
      held = false;
    };
    return { handle: content.handle, release };
  }

  holdsOn(file: CartridgeFile): number {
    return this.#contents.get(file.sha256)?.holds.get(file) ?? 0;
  }

  #add(file: CartridgeFile): Content {
    const holds = new Map<CartridgeFile, number>();
    const { sha256: key, tokenCount, model } = file;
    const read = () => readHeld(key, holds);
    const content = { holds, handle: this.#engine.addCartridge({ key, tokenCount, model, read }) };
    this.#contents.set(key, content);
    return content;
  }

  #release(content: Content, file: CartridgeFile): void {
    const left = this.holdsOn(file) - 1;
    if (left > 0) {
      content.holds.set(file, left);
      return;
    }
    content.holds.delete(file);
    this.#onFileUnused(file);
    if (content.holds.size > 0) return;
    this.#contents.delete(file.sha256);
    this.#onRemoved(this.#engine.removeCartridge(content.handle));
  }
}

/** The rows of a content from one of its files. A file may be set aside, or be changed by hand, while it is read. */
async function readHeld(sha256: string, holds: ReadonlyMap<CartridgeFile, number>): Promise<Cartridge> {
  const [file] = holds.keys();
  if (file === undefined) throw new CartridgesError('INTERNAL', `the cartridge ${sha256} is read although nothing holds it`);
  const { path } = file;
  try {
    return await readUnchanged(path, sha256);
  } catch (error) {
    if (file.path === path && holds.has(file)) throw error;
    return readHeld(sha256, holds);
  }
}

async function readUnchanged(path: string, sha256: string): Promise<Cartridge> {
  if ((await sha256File(path)) === sha256) return readCartridge(path);
  throw new CartridgesError('INVALID_CARTRIDGE', `${path} has changed since it was verified`, { hint: 'reload the cartridge' });
}
