import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, rmdir, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { CartridgesError, toCartridgesError } from '../../core/errors.js';
import { writeJsonAtomic } from '../../core/files.js';
import { folderOfId, idOfFolder, isCartridgeId } from './cartridge-id.js';

/**
 * Cartridges on disk: a folder for each, named after its id, with `entry.json` and the file that it names. A new content is a
 * new file, and the writing of `entry.json` is the moment at which it replaces the old one; so a reader of the old file is not
 * disturbed, and a crash leaves the old entry or the new one. A folder that holds `cartridge.safetensors` and no entry was put
 * there by hand, and is read where it lies.
 *
 * `.incoming` holds what is being uploaded and is emptied at start, `.downloads` what an interrupted download continues from.
 */

const ENTRY = 'entry.json';
const PLACED_BY_HAND = 'cartridge.safetensors';
const OWN_FILE = /^cartridge-[0-9a-f]{16}\.safetensors$/;
const INCOMING = '.incoming';
const DOWNLOADS = '.downloads';
const ALIASES = 'aliases.json';
const MAX_ENTRY_BYTES = 1 << 16;
const MAX_ALIASES_BYTES = 8 << 20;

const entrySchema = z.strictObject({
  version: z.literal(1),
  file: z.string().regex(OWN_FILE),
  sha256: z.string().regex(/^[0-9a-f]{64}$/),
  source: z.enum(['upload', 'huggingface', 'wandb']),
  /** The scope of the key that brought it. */
  owner: z.string().max(256),
  /** Unix seconds. */
  createdAt: z.int().min(0),
});

const aliasesSchema = z.record(z.string().refine(isCartridgeId), z.string().refine(isCartridgeId));

/** What `entry.json` says beside the name of the file. */
export type StoredEntry = Omit<z.infer<typeof entrySchema>, 'version' | 'file'>;

/** A cartridge that a scan found: with an entry, or placed by hand. */
export interface FoundCartridge {
  id: string;
  path: string;
  entry?: StoredEntry;
  /** When the file was last written, Unix seconds. */
  modifiedAt: number;
}

export class CartridgeFolder {
  readonly path: string;

  constructor(path: string) {
    this.path = path;
  }

  /** Makes the folder and removes what an interrupted upload left. */
  async open(): Promise<void> {
    try {
      await rm(join(this.path, INCOMING), { recursive: true, force: true });
      await mkdir(join(this.path, INCOMING), { recursive: true });
    } catch (error) {
      throw toCartridgesError(error);
    }
  }

  /** All cartridges, by id; files that no entry names any more are removed. `onDamaged` is told of entries that cannot be read. */
  async scan(onDamaged: (error: CartridgesError) => void): Promise<FoundCartridge[]> {
    const names = (await readdir(this.path)).sort();
    const found: FoundCartridge[] = [];
    for (const id of names.map(idOfFolder).filter((id) => id !== undefined)) {
      try {
        const cartridge = await this.find(id);
        if (cartridge) found.push(cartridge);
        await this.#removeLeftovers(id, cartridge?.path);
      } catch (error) {
        onDamaged(toCartridgesError(error));
      }
    }
    return found;
  }

  /** The cartridge of an id, if there is one on disk. Throws `INVALID_INPUT` when its entry is damaged. */
  async find(id: string): Promise<FoundCartridge | undefined> {
    const entry = await readJson(join(this.#folder(id), ENTRY), entrySchema, MAX_ENTRY_BYTES, `the entry of the cartridge ${id}`);
    const path = join(this.#folder(id), entry?.file ?? PLACED_BY_HAND);
    const status = await stat(path).catch(() => undefined);
    if (!status?.isFile()) return undefined;
    const modifiedAt = Math.floor(status.mtimeMs / 1000);
    if (entry === undefined) return { id, path, modifiedAt };
    const { version: _version, file: _file, ...stored } = entry;
    return { id, path, modifiedAt, entry: stored };
  }

  /** Where bytes go until they are verified. The next start removes what is left there. */
  incomingPath(): string {
    return join(this.path, INCOMING, randomBytes(8).toString('hex'));
  }

  /** Where a download goes; the same for the same bytes, so that it can be continued. */
  downloadPath(hash: string): string {
    return join(this.path, DOWNLOADS, hash);
  }

  /** Moves a verified file to its place and makes it the content of its id. Returns the path. */
  async publish(id: string, verified: string, entry: StoredEntry): Promise<string> {
    const path = join(this.#folder(id), newFileName());
    try {
      await mkdir(dirname(path), { recursive: true });
      await rename(verified, path);
    } catch (error) {
      throw toCartridgesError(error);
    }
    try {
      await writeJsonAtomic(join(this.#folder(id), ENTRY), { version: 1, file: basename(path), ...entry });
    } catch (error) {
      // No entry names it: it would take room that nobody counts until the next start.
      await this.remove(path);
      throw error;
    }
    return path;
  }

  /** Makes an id unknown. The file stays for those who still read it; returns its path, which the next start removes. */
  async forget(id: string, path: string): Promise<string> {
    await rm(join(this.#folder(id), ENTRY), { force: true });
    if (path !== join(this.#folder(id), PLACED_BY_HAND)) return path;
    const aside = join(this.#folder(id), newFileName());
    await rename(path, aside);
    return aside;
  }

  /** Whether a file is one of this folder's cartridges, not one that is read elsewhere. */
  owns(path: string): boolean {
    return path.startsWith(join(this.path, '/'));
  }

  /** Removes a file, and its folder when nothing else is in it. */
  async remove(path: string): Promise<void> {
    await rm(path, { force: true });
    await rmdir(dirname(path)).catch(ignoreNotEmpty);
  }

  async readAliases(): Promise<Map<string, string>> {
    const aliases = await readJson(
      join(this.path, ALIASES),
      aliasesSchema,
      MAX_ALIASES_BYTES,
      `${ALIASES} in the folder of cartridges`,
    );
    return new Map(Object.entries(aliases ?? {}));
  }

  async writeAliases(aliases: ReadonlyMap<string, string>): Promise<void> {
    await writeJsonAtomic(join(this.path, ALIASES), Object.fromEntries([...aliases].sort()));
  }

  async #removeLeftovers(id: string, current: string | undefined): Promise<void> {
    const own = (await readdir(this.#folder(id))).filter((name) => OWN_FILE.test(name));
    for (const name of own) {
      const path = join(this.#folder(id), name);
      if (path !== current) await this.remove(path);
    }
  }

  #folder(id: string): string {
    return join(this.path, folderOfId(id));
  }
}

function newFileName(): string {
  return `cartridge-${randomBytes(8).toString('hex')}.safetensors`;
}

/** A small JSON file that has to be as its schema says; undefined when there is none. */
async function readJson<T>(path: string, schema: z.ZodType<T>, maxBytes: number, what: string): Promise<T | undefined> {
  const status = await stat(path).catch(() => undefined);
  if (!status?.isFile()) return undefined;
  try {
    if (status.size > maxBytes) throw new Error(`it has more than ${maxBytes} bytes`);
    return schema.parse(JSON.parse(await readFile(path, 'utf8')));
  } catch (cause) {
    throw new CartridgesError('INVALID_INPUT', `${what} is damaged`, {
      hint: 'remove the file and add again what it named',
      cause,
    });
  }
}

function ignoreNotEmpty(error: NodeJS.ErrnoException): void {
  if (!['ENOTEMPTY', 'EEXIST', 'ENOENT'].includes(error.code ?? '')) throw error;
}
