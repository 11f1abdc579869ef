import { mkdir, open, readdir, readFile, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { z } from 'zod';
import { CartridgesError, toCartridgesError } from '../../core/errors.js';
import { writeJsonAtomic } from '../../core/files.js';

const EXTENSION = '.json';
/** What an interrupted write leaves. */
const TEMPORARY = /^\..*\.part$/;
const MAX_RECORD_BYTES = 1 << 20;

/** A folder with a small JSON file for each id. What {@link write} has resolved for survives a crash and a power cut. */
export class RecordFolder<T> {
  readonly path: string;
  readonly #schema: z.ZodType<T>;

  constructor(path: string, schema: z.ZodType<T>) {
    this.path = path;
    this.#schema = schema;
  }

  /** Makes the folder and reads what is in it; a record that cannot be read stays where it is, and `warn` is told. */
  async open(warn: (message: string) => void): Promise<T[]> {
    const records: T[] = [];
    try {
      await mkdir(this.path, { recursive: true });
      for (const name of await readdir(this.path)) {
        if (TEMPORARY.test(name)) await rm(join(this.path, name));
        else if (name.endsWith(EXTENSION)) await this.#read(join(this.path, name)).then((record) => records.push(record), report);
      }
    } catch (error) {
      throw toCartridgesError(error);
    }
    return records;

    function report(error: CartridgesError): void {
      warn(`${error.message}; it is left out`);
    }
  }

  async write(id: string, record: T): Promise<void> {
    await writeJsonAtomic(join(this.path, `${id}${EXTENSION}`), record);
    await syncFolder(this.path);
  }

  async remove(id: string): Promise<void> {
    await rm(join(this.path, `${id}${EXTENSION}`), { force: true });
    await syncFolder(this.path);
  }

  /** Removes the files with an extension whose id has no record, readable or not. */
  async removeOrphans(extension: string): Promise<void> {
    const names = new Set(await readdir(this.path));
    for (const name of names) {
      if (!name.endsWith(extension) || names.has(`${name.slice(0, -extension.length)}${EXTENSION}`)) continue;
      await rm(join(this.path, name));
    }
  }

  async #read(path: string): Promise<T> {
    try {
      const { size } = await stat(path);
      if (size > MAX_RECORD_BYTES) throw new Error(`it has more than ${MAX_RECORD_BYTES} bytes`);
      return this.#schema.parse(JSON.parse(await readFile(path, 'utf8')));
    } catch (cause) {
      throw new CartridgesError('INVALID_INPUT', `${path} is damaged`, { hint: 'remove it', cause });
    }
  }
}

/** A renamed file keeps its new name in a power cut only when its folder is synced; Windows cannot open folders for that. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
