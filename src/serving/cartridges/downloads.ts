import { rm } from 'node:fs/promises';
import { CartridgesError } from '../../core/errors.js';
import { RequestError, refusalFor } from '../request-error.js';
import type { LibraryLimits } from './library-limits.js';
import { hideSystemError } from './server-failure.js';

export type DownloadState = 'running' | 'done' | 'failed' | 'cancelled';
export type RemoteName = 'huggingface' | 'wandb';

/** A download as the admin API shows it. */
export interface DownloadStatus {
  readonly id: string;
  readonly source: RemoteName;
  readonly state: DownloadState;
  readonly receivedBytes: number;
  /** Known when the source has said it. */
  readonly totalBytes: number | undefined;
  /** Unix seconds. */
  readonly startedAt: number;
  readonly finishedAt: number | undefined;
  /** What went wrong, or what is tried again. */
  readonly message: string | undefined;
}

/** What a download does; rejects when it fails, leaving everything as it was. */
export type DownloadWork = (download: Download) => Promise<void>;

/** Ended downloads that are remembered. */
const MAX_REMEMBERED = 100;

/** One download, shared by all who wait for it. */
export class Download {
  readonly id: string;
  readonly source: RemoteName;
  /** The scope of the key that asked first. */
  readonly owner: string;
  readonly signal: AbortSignal;
  readonly startedAt: number = unixSeconds();
  /** Settles when it has ended. */
  readonly done: Promise<void>;
  state: DownloadState = 'running';
  receivedBytes = 0;
  totalBytes: number | undefined;
  finishedAt: number | undefined;
  message: string | undefined;
  /** What may be there of it, to be removed when it is cancelled. */
  partialPath: string | undefined;
  readonly #cancel = new AbortController();
  readonly #seconds: number;

  constructor(id: string, source: RemoteName, owner: string, seconds: number, work: DownloadWork) {
    this.id = id;
    this.source = source;
    this.owner = owner;
    this.#seconds = seconds;
    this.signal = AbortSignal.any([this.#cancel.signal, AbortSignal.timeout(seconds * 1000)]);
    this.done = this.#run(work);
    // Nobody may be waiting; whoever does gets the error all the same.
    this.done.catch(() => undefined);
  }

  cancel(): void {
    this.#cancel.abort();
  }

  async #run(work: DownloadWork): Promise<void> {
    try {
      await work(this);
      this.#finish('done', undefined);
    } catch (error) {
      const refusal = this.#toRefusal(error);
      this.#finish(this.#cancel.signal.aborted ? 'cancelled' : 'failed', describe(refusal));
      if (this.state === 'cancelled' && this.partialPath !== undefined) await rm(this.partialPath, { force: true });
      throw refusal;
    }
  }

  #finish(state: DownloadState, message: string | undefined): void {
    this.state = state;
    this.message = message;
    this.finishedAt = unixSeconds();
  }

  #toRefusal(error: unknown): unknown {
    if (this.#cancel.signal.aborted) return new RequestError(503, `the download of ${this.id} was cancelled`);
    if (this.signal.aborted) return new RequestError(502, `the download of ${this.id} took more than ${this.#seconds} seconds`);
    if (!CartridgesError.is(error) || error instanceof RequestError) return error;
    if (error.code === 'DOWNLOAD_FAILED') return refusalFor(error, 502);
    if (error.code === 'INVALID_OPTION') return refusalFor(error, 400);
    if (error.code === 'DISK_FULL')
      return new RequestError(503, "the server's disk has no room for the download", { cause: error });
    return hideSystemError(error);
  }
}

/** Downloads that run beside serving: one an id at a time, which all who want it join. */
export class Downloads {
  readonly #limits: Pick<LibraryLimits, 'maxDownloads' | 'downloadSeconds'>;
  readonly #work: DownloadWork;
  readonly #running = new Map<string, Download>();
  /** The last of each id, the oldest first. */
  readonly #ended = new Map<string, Download>();

  constructor(limits: Pick<LibraryLimits, 'maxDownloads' | 'downloadSeconds'>, work: DownloadWork) {
    this.#limits = limits;
    this.#work = work;
  }

  /** Starts a download, or joins the one of the same id that runs. Throws a 409 when that comes from elsewhere, and a 429. */
  start(id: string, source: RemoteName, owner: string): Download {
    const running = this.#running.get(id);
    if (running?.source === source) return running;
    if (running) throw new RequestError(409, `${id} is being downloaded from ${running.source}`, { param: 'source' });
    const { maxDownloads, downloadSeconds } = this.#limits;
    if (this.#running.size >= maxDownloads) {
      throw new RequestError(429, `${maxDownloads} downloads run already`, { retryAfterSeconds: 30 });
    }
    const download = new Download(id, source, owner, downloadSeconds, this.#work);
    this.#running.set(id, download);
    download.done.finally(() => this.#remember(download)).catch(() => undefined);
    return download;
  }

  /** Running ones and the last ended one of each id, the newest first. */
  list(): DownloadStatus[] {
    return [...this.#ended.values(), ...this.#running.values()].reverse();
  }

  get(id: string): DownloadStatus | undefined {
    return this.#running.get(id) ?? this.#ended.get(id);
  }

  /** Cancels for all who wait. False when none of this id runs. Resolves when it has ended. */
  async cancel(id: string): Promise<boolean> {
    const download = this.#running.get(id);
    download?.cancel();
    await download?.done.catch(() => undefined);
    return download !== undefined;
  }

  async close(): Promise<void> {
    await Promise.all([...this.#running.keys()].map((id) => this.cancel(id)));
  }

  #remember(download: Download): void {
    this.#running.delete(download.id);
    this.#ended.delete(download.id);
    this.#ended.set(download.id, download);
    const [oldest] = this.#ended.keys();
    if (this.#ended.size > MAX_REMEMBERED && oldest !== undefined) this.#ended.delete(oldest);
  }
}

/** Only what is made for clients; the rest tells of this machine. */
function describe(error: unknown): string {
  return error instanceof RequestError ? error.message : 'the server failed';
}

function unixSeconds(): number {
  return Math.floor(Date.now() / 1000);
}
