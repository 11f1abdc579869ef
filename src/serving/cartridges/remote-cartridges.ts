import { rm } from 'node:fs/promises';
import { throwIfAborted } from '../../core/errors.js';
import { sha256 } from '../../core/hashing.js';
import type { ProgressListener } from '../../core/progress.js';
import { RequestError } from '../request-error.js';
import { type Download, Downloads, type RemoteName } from './downloads.js';
import type { LibraryEntry } from './library-entries.js';
import type { LibraryLimits } from './library-limits.js';
import type { LibraryStore } from './library-store.js';
import type { CartridgeSources } from './sources/create-sources.js';

/** Brings cartridges from the sources that are allowed into a library. */
export class RemoteCartridges {
  readonly downloads: Downloads;
  readonly #store: LibraryStore;
  readonly #sources: CartridgeSources;
  readonly #maxFileBytes: number;
  readonly #onProgress: ProgressListener;

  constructor(store: LibraryStore, sources: CartridgeSources, limits: LibraryLimits, onProgress: ProgressListener) {
    this.#store = store;
    this.#sources = sources;
    this.#maxFileBytes = limits.maxFileBytes;
    this.#onProgress = onProgress;
    this.downloads = new Downloads(limits, (download) => this.#bring(download));
  }

  /** Starts a download for the key of a scope, or joins the one that runs. */
  start(id: string, source: RemoteName, owner: string): Download {
    if (!this.#sources[source]) throw sourceRefused(source);
    checkSameSource(id, this.#store.entries.byId(id), source);
    this.#store.checkRoom(id, 0);
    return this.downloads.start(id, source, owner);
  }

  /** The work of a download: it becomes visible when it is verified; a failure leaves what was there. */
  async #bring(download: Download): Promise<void> {
    const { id, source, owner, signal } = download;
    const path = await this.#fetch(download);
    try {
      const file = await this.#store.verify(id, path);
      await this.#store.publish(id, file, { source, owner }, (current) => {
        throwIfAborted(signal);
        checkSameSource(id, current, source);
      });
    } finally {
      await rm(path, { force: true });
    }
  }

  #fetch(download: Download): Promise<string> {
    const { id, source, signal } = download;
    return this.#sources[source]!.fetch({
      id,
      maxBytes: this.#maxFileBytes,
      signal,
      targetFor: (hash) => {
        const target = this.#store.folder.downloadPath(sha256(JSON.stringify([source, id, hash])));
        download.partialPath = `${target}.incomplete`;
        return target;
      },
      onBytes: (done, total) => Object.assign(download, { receivedBytes: done, totalBytes: total }),
      onRetry: (message) => this.#onProgress({ kind: 'warning', stage: 'download', message: `${id}: ${message}` }),
    });
  }
}

export function sourceRefused(source: string): RequestError {
  return new RequestError(400, `this server takes no cartridges from ${source}`, {
    hint: 'its settings name the sources that are allowed',
  });
}

/** A download replaces only what came from the same place: nobody can change an uploaded cartridge by naming a source for it. */
function checkSameSource(id: string, current: LibraryEntry | undefined, source: RemoteName): void {
  if (current === undefined || current.origin === source) return;
  throw new RequestError(400, `the cartridge ${id} did not come from ${source}`, {
    hint: 'use it as it is, without force_redownload',
  });
}
