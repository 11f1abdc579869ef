import { stat } from 'node:fs/promises';
import { toCartridgesError } from '../../core/errors.js';
import { formatBytes } from '../../core/format-bytes.js';
import type { ProgressListener } from '../../core/progress.js';
import { notFound, RequestError } from '../request-error.js';
import { Turns } from '../turns.js';
import { CartridgeFolder, type FoundCartridge, type StoredEntry } from './cartridge-folder.js';
import { LibraryEntries, type LibraryEntry } from './library-entries.js';
import type { LibraryLimits } from './library-limits.js';
import { hideSystemError } from './server-failure.js';
import { type CartridgeEngine, type CartridgeFile, type ContentHold, SharedContents } from './shared-contents.js';
import { toRefusal, type VerificationRules, verifyCartridge, verifyKnownCartridge } from './verify-cartridge.js';

/** Owner of what no key brought. */
const SERVER_SCOPE = 'server';

export interface StoreOptions {
  folder: string;
  engine: CartridgeEngine;
  rules: VerificationRules;
  limits: LibraryLimits;
  onProgress: ProgressListener;
}

/**
 * The library's state: names and files on disk, the same in memory, and the engine's contents behind them. Changes take turns,
 * each first on disk and then in memory at once, so whoever looks in memory sees the state before or after a change.
 */
export class LibraryStore {
  readonly entries: LibraryEntries;
  readonly folder: CartridgeFolder;
  readonly #contents: SharedContents;
  readonly #options: StoreOptions;
  readonly #changes = new Turns();
  /** A verification holds all rows of a cartridge in memory, so they take turns too. */
  readonly #verifications = new Turns();
  readonly #background = new Set<Promise<void>>();

  private constructor(options: StoreOptions, folder: CartridgeFolder, aliases: ReadonlyMap<string, string>) {
    this.#options = options;
    this.folder = folder;
    this.entries = new LibraryEntries(aliases);
    this.#contents = new SharedContents(options.engine, {
      onFileUnused: (file) => this.#removeUnlessCurrent(file),
      onRemoved: (removal) => this.#watch(removal),
    });
  }

  /**
   * Opens a folder of cartridges and adds `files`, read where they are, by their ids. Of the folder, what cannot be used is left
   * out with a warning; of `files` it is an error: `INVALID_CARTRIDGE`, `CARTRIDGE_MISMATCH`, `FILE_NOT_FOUND`.
   */
  static async open(options: StoreOptions, files: ReadonlyMap<string, string>): Promise<LibraryStore> {
    const folder = new CartridgeFolder(options.folder);
    await folder.open();
    const store = new LibraryStore(options, folder, await folder.readAliases());
    for (const [id, path] of files) {
      const file = await verifyCartridge(path, options.rules);
      store.#set({ id, origin: 'start', file, owner: SERVER_SCOPE, createdAt: await modifiedAt(path) });
    }
    for (const found of await folder.scan((error) => store.#warn(error.message))) await store.#addFound(found);
    return store;
  }

  /** One more hold on an entry's content, for a request. */
  hold({ file }: LibraryEntry): ContentHold {
    return this.#contents.hold(file);
  }

  /** Work on an entry's content, whose file stays until it is done. */
  async whileHeld<T>(entry: LibraryEntry, work: (hold: ContentHold) => Promise<T>): Promise<T> {
    const hold = this.hold(entry);
    try {
      return await work(hold);
    } finally {
      hold.release();
    }
  }

  /** Requests that hold an entry's file now. */
  holders({ file }: LibraryEntry): number {
    return this.#contents.holdsOn(file) - 1;
  }

  /** Verifies a file for an id. Throws a 400 that names the id and not the path. */
  verify(id: string, path: string, sha256?: string): Promise<CartridgeFile> {
    return this.#verifications.take(async () => {
      try {
        return await verifyCartridge(path, this.#options.rules, sha256);
      } catch (error) {
        throw toRefusal(error, id, path);
      }
    });
  }

  /** Makes a verified file in the folder the content of an id. `check` refuses by throwing, given what the id is now. */
  publish(
    id: string,
    file: CartridgeFile,
    { source, owner }: Pick<StoredEntry, 'source' | 'owner'>,
    check: (current: LibraryEntry | undefined) => void,
  ): Promise<LibraryEntry> {
    return this.#change(async () => {
      check(this.entries.byId(id));
      this.checkRoom(id, file.bytes);
      const createdAt = Math.floor(Date.now() / 1000);
      file.path = await this.folder.publish(id, file.path, { source, owner, createdAt, sha256: file.sha256 });
      return this.#set({ id, origin: source, file, owner, createdAt });
    });
  }

  /** Throws when a cartridge of this size could not be added under an id: a 409 for the name or the number, a 413 for the room. */
  checkRoom(id: string, bytes: number): void {
    const { maxCartridges, maxFolderBytes } = this.#options.limits;
    if (!this.entries.isFreeForId(id)) throw nameTaken(id, 'id');
    if (this.entries.byId(id) === undefined && this.entries.size >= maxCartridges) {
      throw new RequestError(409, `the library is full: it has ${maxCartridges} cartridges`, { hint: 'delete some first' });
    }
    const own = this.entries.all().filter(({ file }) => this.folder.owns(file.path));
    const used = own.reduce((sum, { file }) => sum + file.bytes, bytes);
    if (used <= maxFolderBytes) return;
    throw new RequestError(413, `the cartridges of this server may take ${formatBytes(maxFolderBytes)}, and no more is free`);
  }

  /** Adds what was put into the folder by hand since the last look. False when there is nothing for this id. */
  adopt(id: string): Promise<boolean> {
    return this.#change(async () => {
      if (this.entries.byId(id)) return true;
      const found = await this.folder.find(id);
      if (!found) return false;
      this.checkRoom(id, 0);
      this.#set(await this.#openFound(found, (path, sha256) => this.verify(id, path, sha256)));
      return true;
    });
  }

  /**
   * Reads an entry's file anew. Throws a 404 when it is removed meanwhile, and a 409 when a file of the library itself was changed
   * by hand.
   */
  async reload(entry: LibraryEntry): Promise<void> {
    const { id, origin } = entry;
    const file = await this.whileHeld(entry, () => this.verify(id, entry.file.path)).catch((error) => {
      throw this.entries.byId(id) === entry ? error : notFound('cartridge', id);
    });
    if (file.sha256 === entry.file.sha256) return;
    if (origin !== 'start' && origin !== 'local') {
      throw new RequestError(409, `the file of ${id} was changed by hand`, { hint: 'upload or download it again' });
    }
    await this.#change(async () => {
      if (this.entries.byId(id) === entry) this.#set({ ...entry, file, createdAt: await modifiedAt(file.path) });
    });
  }

  /** Removes a cartridge and its aliases; its file goes with the last request that uses it. One that was named at start stays on disk. */
  async remove(id: string): Promise<void> {
    await this.#change(async () => {
      const { file, hold } = this.#getById(id);
      if (this.folder.owns(file.path)) file.path = await this.folder.forget(id, file.path);
      const aliases = this.entries.aliases.size;
      this.entries.delete(id);
      hold.release();
      if (this.entries.aliases.size < aliases) await this.folder.writeAliases(this.entries.aliases);
    });
    await this.settled();
  }

  /** Gives a cartridge one more name, or points an alias to another cartridge. */
  setAlias(alias: string, name: string): Promise<void> {
    return this.#change(async () => {
      const { id } = this.entries.get(name);
      if (!this.entries.isFreeForAlias(alias)) throw nameTaken(alias, 'alias');
      if (!this.entries.aliases.has(alias) && this.entries.aliases.size >= this.#options.limits.maxAliases) {
        throw new RequestError(409, `there are ${this.#options.limits.maxAliases} aliases already`, {
          hint: 'delete some first',
        });
      }
      await this.folder.writeAliases(new Map(this.entries.aliases).set(alias, id));
      this.entries.setAlias(alias, id);
    });
  }

  /** False when the cartridge has no such alias. */
  deleteAlias(alias: string, id: string): Promise<boolean> {
    return this.#change(async () => {
      const aliases = new Map(this.entries.aliases);
      if (aliases.get(alias) !== id) return false;
      aliases.delete(alias);
      await this.folder.writeAliases(aliases);
      this.entries.deleteAlias(alias);
      return true;
    });
  }

  /** Resolves when the engine has let go of what was released, and its files are removed. */
  async settled(): Promise<void> {
    while (this.#background.size > 0) await Promise.all(this.#background);
  }

  #change<T>(work: () => Promise<T>): Promise<T> {
    return this.#changes.take(work).catch((error) => {
      throw hideSystemError(error);
    });
  }

  /** An alias does not stand for its cartridge when that is to be removed. */
  #getById(id: string): LibraryEntry {
    const entry = this.entries.get(id);
    if (entry.id === id) return entry;
    throw new RequestError(409, `${id} is an alias of ${entry.id}`, {
      param: 'id',
      hint: 'remove the alias, or name the cartridge',
    });
  }

  async #addFound(found: FoundCartridge): Promise<void> {
    const { rules } = this.#options;
    try {
      if (!this.entries.isFreeForId(found.id) || this.entries.byId(found.id)) throw nameTaken(found.id, 'id');
      const verify = (path: string, sha256?: string) =>
        sha256 === undefined ? verifyCartridge(path, rules) : verifyKnownCartridge(path, rules, sha256);
      this.#set(await this.#openFound(found, verify));
    } catch (error) {
      this.#warn(`the cartridge ${found.id} in ${this.folder.path} is left out: ${toCartridgesError(error).message}`);
    }
  }

  async #openFound(
    { id, path, entry, modifiedAt }: FoundCartridge,
    verify: (path: string, sha256?: string) => Promise<CartridgeFile>,
  ): Promise<Omit<LibraryEntry, 'hold'>> {
    const file = await verify(path, entry?.sha256);
    if (entry === undefined) return { id, origin: 'local', file, owner: SERVER_SCOPE, createdAt: modifiedAt };
    return { id, origin: entry.source, file, owner: entry.owner, createdAt: entry.createdAt };
  }

  /** Who holds the old content keeps it. */
  #set(entry: Omit<LibraryEntry, 'hold'>): LibraryEntry {
    const old = this.entries.byId(entry.id);
    const held = { ...entry, hold: this.#contents.hold(entry.file) };
    this.entries.set(held);
    old?.hold.release();
    return held;
  }

  #removeUnlessCurrent({ path }: CartridgeFile): void {
    if (!this.folder.owns(path) || this.entries.all().some(({ file }) => file.path === path)) return;
    this.#watch(this.folder.remove(path));
  }

  /** Work that nobody waits for: when it fails, whoever runs the server is told. */
  #watch(work: Promise<void>): void {
    const watched = work
      .catch((error) => this.#warn(toCartridgesError(error).message))
      .finally(() => this.#background.delete(watched));
    this.#background.add(watched);
  }

  #warn(message: string): void {
    this.#options.onProgress({ kind: 'warning', stage: 'load', message });
  }
}

async function modifiedAt(path: string): Promise<number> {
  return Math.floor((await stat(path)).mtimeMs / 1000);
}

function nameTaken(name: string, param: string): RequestError {
  return new RequestError(409, `the name ${name} is taken, or differs from another in case alone`, { param });
}
