import { rm } from 'node:fs/promises';
import type { Caller } from '../caller.js';
import { RequestError } from '../request-error.js';
import { checkCartridgeId } from './cartridge-id.js';
import type { LibraryEntry } from './library-entries.js';
import type { LibraryLimits } from './library-limits.js';
import type { LibraryStore } from './library-store.js';
import { type IncomingBody, receiveBody } from './receive-body.js';

export interface Upload extends IncomingBody {
  id: string;
  /** What the bytes must hash to. */
  expectedSha256?: string;
  /** Give an id that is taken a new content. */
  replace: boolean;
  signal?: AbortSignal;
}

/** Takes cartridges in: streamed to disk beside, hashed, verified, and only then the content of their id. */
export class CartridgeUploads {
  readonly #store: LibraryStore;
  readonly #limits: LibraryLimits;
  #running = 0;

  constructor(store: LibraryStore, limits: LibraryLimits) {
    this.#store = store;
    this.#limits = limits;
  }

  /** Everything that can be refused without the body is refused before it is read. */
  async take(upload: Upload, caller: Caller): Promise<LibraryEntry> {
    const { id, replace, announcedBytes = 0 } = upload;
    checkCartridgeId(id);
    checkReplaceable(id, this.#store.entries.byId(id), replace);
    this.#store.checkRoom(id, announcedBytes);
    if (this.#running >= this.#limits.maxUploads) {
      throw new RequestError(429, `${this.#limits.maxUploads} uploads run already`, { retryAfterSeconds: 30 });
    }
    this.#running++;
    const path = this.#store.folder.incomingPath();
    try {
      return await this.#takeInto(path, upload, caller);
    } finally {
      this.#running--;
      await rm(path, { force: true });
    }
  }

  async #takeInto(path: string, upload: Upload, caller: Caller): Promise<LibraryEntry> {
    const { id, replace, expectedSha256 } = upload;
    const sha256 = await this.#receive(upload, path);
    if (expectedSha256 !== undefined && expectedSha256 !== sha256) {
      throw new RequestError(400, `the bytes hash to ${sha256}, not to ${expectedSha256}`, { param: 'sha256' });
    }
    const file = await this.#store.verify(id, path, sha256);
    const origin = { source: 'upload' as const, owner: caller.scope };
    return this.#store.publish(id, file, origin, (current) => checkReplaceable(id, current, replace));
  }

  async #receive(upload: Upload, path: string): Promise<string> {
    const { maxFileBytes: maxBytes, uploadSeconds } = this.#limits;
    const timeout = AbortSignal.timeout(uploadSeconds * 1000);
    const signal = upload.signal ? AbortSignal.any([upload.signal, timeout]) : timeout;
    try {
      return await receiveBody(upload, path, { maxBytes, signal });
    } catch (error) {
      if (timeout.aborted) throw new RequestError(408, `the upload took more than ${uploadSeconds} seconds`, { cause: error });
      throw error;
    }
  }
}

/** An upload may replace whatever the library holds itself; a file that was named at start would be back with the next start. */
function checkReplaceable(id: string, current: LibraryEntry | undefined, replace: boolean): void {
  if (current?.origin === 'start') throw new RequestError(409, `${id} was named at start: change its file and reload it`);
  if (current === undefined || replace) return;
  throw new RequestError(409, `there is a cartridge ${id} already`, { param: 'id', hint: 'replace=true gives it a new content' });
}
