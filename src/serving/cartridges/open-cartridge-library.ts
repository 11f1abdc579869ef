import type { Receipt } from '../../cartridge/cartridge.js';
import { type CartridgeHeader, readCartridgeHeader } from '../../cartridge/cartridge-file.js';
import { CartridgesError } from '../../core/errors.js';
import type { ProgressListener } from '../../core/progress.js';
import type { CartridgeModel } from '../../pipeline/open-cartridge.js';
import type { Caller } from '../caller.js';
import { notFound, RequestError } from '../request-error.js';
import { untilAborted } from '../turns.js';
import { CARTRIDGE_ID_RULE, checkCartridgeId, isCartridgeId } from './cartridge-id.js';
import type {
  CartridgeEntry,
  CartridgeLibrary,
  CartridgeReference,
  CartridgeSourceName,
  HeldCartridges,
} from './cartridge-library.js';
import { CartridgeUploads, type Upload } from './cartridge-uploads.js';
import type { DownloadStatus, Downloads, RemoteName } from './downloads.js';
import type { Origin } from './library-entries.js';
import { DEFAULT_LIBRARY_LIMITS, type LibraryLimits } from './library-limits.js';
import { LibraryStore } from './library-store.js';
import { RemoteCartridges, sourceRefused } from './remote-cartridges.js';
import type { CartridgeEngine } from './shared-contents.js';
import type { CartridgeSources } from './sources/create-sources.js';
import { toRefusal } from './verify-cartridge.js';

export interface CartridgeLibraryOptions {
  /** Where cartridges are kept; made when it is missing. */
  folder: string;
  engine: CartridgeEngine;
  /** The served model. */
  session: CartridgeModel;
  /** Cartridges by id that are read where they are. */
  files?: ReadonlyMap<string, string>;
  /** Where requests and administrators may have cartridges fetched from; by default nowhere. */
  sources?: CartridgeSources;
  /** Take cartridges of another quantisation of the served model; off by default. */
  allowQuantization?: boolean;
  limits?: Partial<LibraryLimits>;
  /** Told of what is left out at start and of what fails behind a request's back. */
  onProgress?: ProgressListener;
}

/** What an administrator sees of a cartridge. */
export interface CartridgeDetails extends CartridgeEntry {
  readonly origin: Origin;
  readonly owner: string;
  readonly header: Omit<CartridgeHeader, 'receipt'>;
  readonly receipt: Receipt;
  /** Its rows are in the engine's cache. */
  readonly isResident: boolean;
  /** Requests that use it now. */
  readonly holders: number;
}

/**
 * Opens the cartridges of a server. Throws `INVALID_OPTION` for a name that cannot be one, and for a file of `files` that cannot
 * be used `FILE_NOT_FOUND`, `INVALID_CARTRIDGE` or `CARTRIDGE_MISMATCH`; what is damaged in the folder is left out with a warning.
 *
 * @example
 * const library = await openCartridgeLibrary({ folder: 'cartridges', engine, session, files: new Map([['notes', 'notes.safetensors']]) });
 * const held = await library.hold([{ id: 'notes', source: 'local', forceRedownload: false }], caller);
 * try { await engine.complete({ prompt, cartridges: held.handles, maxTokens: 20, sampling }); } finally { held.release(); }
 */
export async function openCartridgeLibrary(options: CartridgeLibraryOptions): Promise<ServedCartridges> {
  const { folder, engine, session, sources = {}, allowQuantization = false, onProgress = () => {} } = options;
  const files = options.files ?? new Map();
  for (const id of files.keys()) {
    if (isCartridgeId(id)) continue;
    throw new CartridgesError('INVALID_OPTION', `${JSON.stringify(id)} cannot be the name of a cartridge`, {
      hint: `use ${CARTRIDGE_ID_RULE}`,
    });
  }
  const limits = { ...DEFAULT_LIBRARY_LIMITS, ...options.limits };
  const { maxSequenceTokens } = engine;
  const rules = { session, allowQuantization, maxSequenceTokens, maxFileBytes: limits.maxFileBytes };
  const store = await LibraryStore.open({ folder, engine, rules, limits, onProgress }, files);
  return new ServedCartridges(store, { engine, sources, limits, onProgress });
}

interface ServedParts extends Required<Pick<CartridgeLibraryOptions, 'engine' | 'sources' | 'onProgress'>> {
  limits: LibraryLimits;
}

/** The cartridges of a server: for requests by {@link CartridgeLibrary}, and with what administrators do. */
export class ServedCartridges implements CartridgeLibrary {
  readonly downloads: Pick<Downloads, 'list' | 'get' | 'cancel'>;
  readonly #store: LibraryStore;
  readonly #engine: CartridgeEngine;
  readonly #readsFolder: boolean;
  readonly #limits: LibraryLimits;
  readonly #uploads: CartridgeUploads;
  readonly #remotes: RemoteCartridges;
  /** Readings of local files that requests asked for, by id: who asks meanwhile joins. */
  readonly #localReads = new Map<string, Promise<void>>();

  constructor(store: LibraryStore, parts: ServedParts) {
    const { engine, sources, limits, onProgress } = parts;
    this.#store = store;
    this.#engine = engine;
    this.#readsFolder = sources.local === true;
    this.#limits = limits;
    this.#uploads = new CartridgeUploads(store, limits);
    this.#remotes = new RemoteCartridges(store, sources, limits, onProgress);
    this.downloads = this.#remotes.downloads;
  }

  list(caller: Caller): readonly CartridgeEntry[] {
    const { entries } = this.#store;
    return entries
      .all()
      .filter(({ id }) => entries.mayUse(caller, id))
      .map((entry) => entries.describe(entry));
  }

  async hold(references: readonly CartridgeReference[], caller: Caller, signal?: AbortSignal): Promise<HeldCartridges> {
    const { maxCartridgesPerRequest } = this.#limits;
    if (references.length > maxCartridgesPerRequest) {
      throw new RequestError(400, `a request may name at most ${maxCartridgesPerRequest} cartridges`, { param: 'cartridges' });
    }
    for (const { id } of references) this.#checkMayUse(id, caller);
    for (const reference of references) await this.#makeAvailable(reference, caller, signal);
    return this.#holdAll(references, caller);
  }

  /** All cartridges, for an administrator. */
  all(): readonly CartridgeEntry[] {
    const { entries } = this.#store;
    return entries.all().map((entry) => entries.describe(entry));
  }

  /** One cartridge, for an administrator. */
  get(name: string): CartridgeEntry {
    const { entries } = this.#store;
    return entries.describe(entries.get(name));
  }

  async inspect(name: string): Promise<CartridgeDetails> {
    const { entries } = this.#store;
    const entry = entries.get(name);
    const holders = this.#store.holders(entry);
    return this.#store.whileHeld(entry, async ({ handle }) => {
      const { receipt, ...header } = await readCartridgeHeader(entry.file.path);
      const { origin, owner } = entry;
      return { ...entries.describe(entry), origin, owner, header, receipt, isResident: this.#engine.isResident(handle), holders };
    });
  }

  /** Takes a cartridge in. It is visible when all of it is there and verified, and not before. */
  async upload(upload: Upload, caller: Caller): Promise<CartridgeEntry> {
    return this.#store.entries.describe(await this.#uploads.take(upload, caller));
  }

  /** Reads the rows into the cache, so that the first request need not wait for them. */
  async load(name: string, signal?: AbortSignal): Promise<void> {
    const entry = this.#store.entries.get(name);
    await this.#store
      .whileHeld(entry, ({ handle }) => this.#engine.preload(handle, signal))
      .catch((error) => {
        throw toRefusal(error, entry.id, entry.file.path);
      });
  }

  /** Takes the rows out of the cache; the next request reads them again. Throws a 409 while a request uses them. */
  async unload(name: string): Promise<void> {
    const isOut = await this.#store.whileHeld(this.#store.entries.get(name), async ({ handle }) => {
      return !this.#engine.isResident(handle) || this.#engine.evict(handle);
    });
    if (!isOut) throw new RequestError(409, `the cartridge ${name} is in use`, { hint: 'try again when its requests are done' });
  }

  /** Reads the file anew. Running requests keep the old rows, later ones get the new. */
  async reload(name: string): Promise<CartridgeEntry> {
    const entry = this.#store.entries.get(name);
    await this.#store.reload(entry);
    return this.get(entry.id);
  }

  /** Removes a cartridge and its aliases; requests that use it finish with it. */
  remove(id: string): Promise<void> {
    return this.#store.remove(id);
  }

  setAlias(alias: string, name: string): Promise<void> {
    checkCartridgeId(alias, 'alias');
    return this.#store.setAlias(alias, name);
  }

  /** Removes an alias of a cartridge. */
  async deleteAlias(alias: string, name: string): Promise<void> {
    const { id } = this.#store.entries.get(name);
    if (!(await this.#store.deleteAlias(alias, id)))
      throw new RequestError(404, `${name} has no alias ${alias}`, { param: 'alias' });
  }

  /** Starts a download or joins the one that runs. `force` fetches again what came from the same source before. */
  startDownload(id: string, source: RemoteName, caller: Caller, force: boolean): DownloadStatus {
    checkCartridgeId(id);
    const current = this.#store.entries.byId(id);
    if (current && !force) throw new RequestError(409, `there is a cartridge ${id} already`, { param: 'id' });
    return this.#remotes.start(id, source, caller.scope);
  }

  /** Ends downloads and waits for what the engine and the disk have to do. */
  async close(): Promise<void> {
    await this.#remotes.downloads.close();
    await this.#store.settled();
  }

  #checkMayUse(name: string, caller: Caller): void {
    if (!isCartridgeId(name) || !this.#store.entries.mayUse(caller, name)) throw notFound('cartridge', name);
  }

  async #makeAvailable(reference: CartridgeReference, caller: Caller, signal?: AbortSignal): Promise<void> {
    const { id, source, forceRedownload } = reference;
    const entry = this.#store.entries.find(id);
    if (entry && !forceRedownload) return;
    if (!entry && !this.#canBring(id, source)) throw notFound('cartridge', id);
    if (source !== 'local') return untilAborted(this.#remotes.start(entry?.id ?? id, source, caller.scope).done, signal);
    if (!this.#readsFolder) throw sourceRefused(source);
    return untilAborted(entry ? this.#readLocal(entry.id, () => this.#store.reload(entry)) : this.#adopt(id), signal);
  }

  /** Local means the library itself; without that source it has what it has. */
  #canBring(id: string, source: CartridgeSourceName): boolean {
    return this.#store.entries.isFreeForId(id) && (source !== 'local' || this.#readsFolder);
  }

  #adopt(id: string): Promise<void> {
    return this.#readLocal(id, async () => {
      if (!(await this.#store.adopt(id))) throw notFound('cartridge', id);
    });
  }

  #readLocal(id: string, read: () => Promise<void>): Promise<void> {
    const running = this.#localReads.get(id);
    if (running) return running;
    const reading = read().finally(() => this.#localReads.delete(id));
    this.#localReads.set(id, reading);
    return reading;
  }

  /** Nothing is awaited here, so all handles are of one moment. */
  #holdAll(references: readonly CartridgeReference[], caller: Caller): HeldCartridges {
    for (const { id } of references) this.#checkMayUse(id, caller);
    const entries = references.map(({ id }) => this.#store.entries.get(id));
    const holds = entries.map((entry) => this.#store.hold(entry));
    return {
      handles: holds.map(({ handle }) => handle),
      ids: entries.map(({ id }) => id),
      tokenCount: entries.reduce((sum, { file }) => sum + file.tokenCount, 0),
      release: () => {
        for (const { release } of holds) release();
      },
    };
  }
}
