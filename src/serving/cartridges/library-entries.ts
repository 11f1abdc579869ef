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

const NO_NAMES: ReadonlySet<string> = new Set();

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
  #idsOfNames = new WeakMap<ReadonlySet<string>, ReadonlySet<string>>();

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

  /**
   * Whether a caller may use what a name stands for, or bring it when it stands for nothing. What is looked up depends on the names
   * that the caller was given, and not on what others have: the time tells nothing of a foreign cartridge or its aliases.
   */
  mayUse(caller: Caller, name: string): boolean {
    const mayUseName = caller.mayUse(name);
    const id = this.#idOf(name);
    const mayUseId = caller.mayUse(id);
    const mayUseAlias = this.#idsOf(caller).has(id);
    return mayUseName || (this.#entries.has(id) && (mayUseId || mayUseAlias));
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
    this.#idsOfNames = new WeakMap();
    this.#taken.set(alias.toLowerCase(), alias);
    this.#aliasesOfId.set(id, (this.#aliasesOfId.get(id) ?? new Set()).add(alias));
  }

  deleteAlias(alias: string): void {
    const id = this.#aliases.get(alias);
    if (id === undefined) return;
    this.#aliases.delete(alias);
    this.#idsOfNames = new WeakMap();
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

  #idOf(name: string): string {
    return this.#aliases.get(name) ?? name;
  }

  /** What the names stand for that a caller was given. Lists ask for many cartridges, so it is kept until an alias changes. */
  #idsOf({ names = NO_NAMES }: Caller): ReadonlySet<string> {
    const known = this.#idsOfNames.get(names) ?? new Set(Array.from(names, (name) => this.#idOf(name)));
    this.#idsOfNames.set(names, known);
    return known;
  }

  #aliasesOf(id: string): string[] {
    return [...(this.#aliasesOfId.get(id) ?? [])].sort();
  }
}
