import { type FileHandle, open, rename, rm } from 'node:fs/promises';
import { rethrow } from '../../core/errors.js';

/** Where the bytes of a draft are counted. */
export interface DraftBytes {
  /** Told of bytes before they are written; throws to refuse them. */
  take(bytes: number): void;
  /** Told of all that were taken, when the draft is discarded. */
  giveBack(bytes: number): void;
}

/** A file that is being written. Nobody sees it before it is moved to its place. */
export class FileDraft {
  readonly scope: string;
  readonly #handle: FileHandle;
  readonly #count: DraftBytes;
  #path: string;
  #bytes = 0;

  private constructor(scope: string, path: string, handle: FileHandle, count: DraftBytes) {
    this.scope = scope;
    this.#path = path;
    this.#handle = handle;
    this.#count = count;
  }

  static async create(scope: string, path: string, count: DraftBytes): Promise<FileDraft> {
    const handle = await open(path, 'wx').catch(rethrow);
    return new FileDraft(scope, path, handle, count);
  }

  get bytes(): number {
    return this.#bytes;
  }

  async write(data: Uint8Array): Promise<void> {
    this.#count.take(data.byteLength);
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
    this.#path = path;
  }

  /** Removes what was written, wherever it is, at any time before it was published. */
  async discard(): Promise<void> {
    this.#count.giveBack(this.#bytes);
    this.#bytes = 0;
    await this.#handle.close();
    await rm(this.#path, { force: true });
  }
}
