import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { rethrow } from '../../core/errors.js';

/** A file that is being written. Nobody sees it before it is moved to its place. */
export class FileDraft {
  readonly scope: string;
  readonly #path: string;
  readonly #handle: FileHandle;
  readonly #count: (bytes: number) => void;
  #bytes = 0;

  private constructor(scope: string, path: string, handle: FileHandle, count: (bytes: number) => void) {
    this.scope = scope;
    this.#path = path;
    this.#handle = handle;
    this.#count = count;
  }

  /** @param count  Told of bytes before they are written, and with a minus sign when they are discarded; throws to refuse them. */
  static async create(scope: string, path: string, count: (bytes: number) => void): Promise<FileDraft> {
    const handle = await open(path, 'wx').catch(rethrow);
    return new FileDraft(scope, path, handle, count);
  }

  get bytes(): number {
    return this.#bytes;
  }

  async write(data: Uint8Array): Promise<void> {
    this.#count(data.byteLength);
    this.#bytes += data.byteLength;
    await this.#handle.writeFile(data).catch(rethrow);
  }

  /** Brings everything to the disk and ends writing. */
  async seal(): Promise<void> {
    await this.#handle.sync().catch(rethrow);
    await this.#handle.close();
  }

  /** Gives a sealed file its place. */
  async moveTo(path: string): Promise<void> {
    await rename(this.#path, path).catch(rethrow);
  }

  /** Removes what was written, at any time before it was moved. */
  async discard(): Promise<void> {
    this.#count(-this.#bytes);
    this.#bytes = 0;
    await this.#handle.close();
    await rm(this.#path, { force: true });
  }
}
