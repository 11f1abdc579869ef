import type { Caller } from '../caller.js';
import { notFound } from '../request-error.js';
import type { CartridgeEntry } from './cartridge-library.js';
import type { CartridgeFile, ContentHold } from './shared-contents.js';

/** Where a cartridge came from: named at start, placed in the folder by hand, uploaded, or downloaded. */
export type Origin = 'start' | 'local' | 'upload' | 'huggingface' | 'wandb';

/** A cartridge of the library. It holds its content, so the engine knows it as long as the library does. */
export interface LibraryEntry {
  readonly id: string;
  readonly origin: Origin;
  readonly file: CartridgeFile;
  readonly hold: ContentHold;
  /** The scope of the key that brought it. */
  readonly owner: string;
  /** Unix seconds. */
  readonly createdAt: number;
}

/**
 * Names of the library in memory, and who may use what. A key may use a cartridge when it may use its id or one of its
 * aliases, and then by any of its names. No two names differ in case alone: some disks could not tell them apart.
 */
export class LibraryEntries {
  readonly #entries = new Map<string, LibraryEntry>();
  /** The id of each alias; that cartridge may be missing. */
  readonly #aliases = new Map<string, string>();
  readonly #aliasesOfId = new Map<string, Set<string>>();
  /** Every name by its lower-case form. */
  readonly #taken = new Map<string, string>();

  constructor(aliases: ReadonlyMap<string, string>) {
    for (const [alias, id] of aliases) this.setAlias(alias, id);
  }

  get size(): number {
    return this.#entries.size;
  }

  get aliases(): ReadonlyMap<string, string> {
    return this.#aliases;
  }

  /** Sorted by id. */
  all(): LibraryEntry[] {
    return [...this.#entries.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  /** By id or alias. */
  find(name: string): LibraryEntry | undefined {
    return this.#entries.get(name) ?? this.#entries.get(this.#aliases.get(name) ?? '');
  }

  byId(id: string): LibraryEntry | undefined {
    return this.#entries.get(id);
  }

  /** By id or alias; throws a 404. */
  get(name: string): LibraryEntry {
    const entry = this.find(name);
    if (!entry) throw notFound('cartridge', name);
    return entry;
  }

  /** Whether a caller may use what a name stands for, or bring it when it stands for nothing. */
  mayUse(caller: Caller, name: string): boolean {
    const entry = this.find(name);
    if (entry === undefined) return caller.mayUse(name);
    return caller.mayUse(entry.id) || this.#aliasesOf(entry.id).some((alias) => caller.mayUse(alias));
  }

  /** Whether a cartridge may get this id: it is free, or the id of one that is replaced. */
  isFreeForId(id: string): boolean {
    const taken = this.#taken.get(id.toLowerCase());
    return taken === undefined || (taken === id && !this.#aliases.has(id));
  }

  isFreeForAlias(alias: string): boolean {
    const taken = this.#taken.get(alias.toLowerCase());
    return taken === undefined || (taken === alias && this.#aliases.has(alias));
  }

  set(entry: LibraryEntry): void {
    this.#entries.set(entry.id, entry);
    this.#taken.set(entry.id.toLowerCase(), entry.id);
  }

  setAlias(alias: string, id: string): void {
    this.deleteAlias(alias);
    this.#aliases.set(alias, id);
    this.#taken.set(alias.toLowerCase(), alias);
    this.#aliasesOfId.set(id, (this.#aliasesOfId.get(id) ?? new Set()).add(alias));
  }

  deleteAlias(alias: string): void {
    const id = this.#aliases.get(alias);
    if (id === undefined) return;
    this.#aliases.delete(alias);
    this.#taken.delete(alias.toLowerCase());
    this.#aliasesOfId.get(id)?.delete(alias);
  }

  /** Removes a cartridge with its aliases. */
  delete(id: string): void {
    this.#entries.delete(id);
    this.#taken.delete(id.toLowerCase());
    for (const alias of this.#aliasesOf(id)) this.deleteAlias(alias);
  }

  describe({ id, file, createdAt }: LibraryEntry): CartridgeEntry {
    const { tokenCount, bytes, sha256 } = file;
    return { id, aliases: this.#aliasesOf(id), tokenCount, bytes, sha256, createdAt };
  }

  #aliasesOf(id: string): string[] {
    return [...(this.#aliasesOfId.get(id) ?? [])].sort();
  }
}
