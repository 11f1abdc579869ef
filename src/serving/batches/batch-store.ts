import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { notFound, RequestError } from '../request-error.js';
import { Turns } from '../turns.js';
import type { BatchLimits } from './batch-limits.js';
import { type BatchRecord, batchRecordSchema, isFinished } from './batch-record.js';
import type { FileDraft } from './file-draft.js';
import { type FileDetails, FileStore, type StoredFile } from './file-store.js';
import { RecordFolder } from './record-folder.js';
import { ScopeBytes } from './scope-bytes.js';
import { ScopedRecords } from './scoped-records.js';

export interface BatchStoreOptions {
  folder: string;
  limits: BatchLimits;
  /** Told of what is damaged and of what could not be cleaned up. */
  warn: (message: string) => void;
  /** Milliseconds since 1970. */
  now?: () => number;
}

/** What a client decides about a batch. */
export type BatchOrder = Pick<
  BatchRecord,
  'inputFileId' | 'endpoint' | 'completionWindow' | 'metadata' | 'outputSeconds' | 'expiresAtMs'
>;

type BatchChange = (current: BatchRecord) => Partial<BatchRecord>;

const RESULTS = '.results';
/** One of answers and one of errors. */
const FILES_OF_BATCH = 2;

/**
 * Files and batches on disk, each the property of a scope. What a caller was told to be there survives a crash and a power cut.
 * Changes take turns, first on disk and then in memory.
 *
 * The folder holds `files/` (records and contents), `batches/` (records, and the results of those that run), and `incoming/`,
 * which is emptied at start. One server at a time uses a folder.
 */
export class BatchStore {
  readonly limits: BatchLimits;
  readonly files: FileStore;
  readonly bytes: ScopeBytes;
  readonly now: () => number;
  readonly #folder: RecordFolder<BatchRecord>;
  readonly #batches = new ScopedRecords<BatchRecord>();
  readonly #changes = new Turns();
  /** What of the bytes of a key are results of a batch that has not ended. */
  readonly #resultBytes = new Map<string, number>();

  private constructor(options: Required<BatchStoreOptions>, files: FileStore, bytes: ScopeBytes) {
    this.limits = options.limits;
    this.now = options.now;
    this.files = files;
    this.bytes = bytes;
    this.#folder = new RecordFolder(join(options.folder, 'batches'), batchRecordSchema);
  }

  /** Opens a folder, or makes it. What is damaged is left out with a warning. */
  static async open({ now = Date.now, ...options }: BatchStoreOptions): Promise<BatchStore> {
    const bytes = new ScopeBytes(options.limits.maxKeyBytes);
    const files = await FileStore.open({ ...options, bytes, now });
    const store = new BatchStore({ ...options, now }, files, bytes);
    for (const batch of await store.#folder.open(options.warn)) await store.#addFound(batch);
    await store.#folder.removeOrphans(RESULTS);
    await store.sweep();
    return store;
  }

  /** Throws 404 for what does not exist or belongs to another scope. */
  get(scope: string, id: string, param?: string): BatchRecord {
    const batch = this.#batches.get(scope, id);
    if (batch === undefined) throw notFound('batch', id, param);
    return batch;
  }

  /** The newest first. */
  list(scope: string): BatchRecord[] {
    return this.#batches.list(scope);
  }

  /** Of all scopes, the oldest first. */
  unfinished(): BatchRecord[] {
    const unfinished = this.#batches.all().filter((batch) => !isFinished(batch));
    return unfinished.sort((a, b) => a.createdAtMs - b.createdAtMs);
  }

  /** Accepts a batch. Throws 404 for its file, 400 when that has another purpose, 429 for too many unfinished ones or files. */
  create(scope: string, order: BatchOrder): Promise<BatchRecord> {
    return this.#changes.take(async () => {
      this.#checkOrder(scope, order);
      const id = `batch_${randomBytes(16).toString('hex')}`;
      const counts = { completed: 0, failed: 0 };
      const batch: BatchRecord = { id, scope, ...order, status: 'validating', counts, createdAtMs: this.now() };
      await this.#folder.write(id, batch);
      this.#batches.set(batch);
      await this.#forgetOldest(scope);
      return batch;
    });
  }

  /** Changes a batch by what it is now; a change without fields writes nothing. */
  update({ scope, id }: BatchRecord, change: BatchChange): Promise<BatchRecord> {
    return this.#changes.take(async () => {
      const current = this.get(scope, id);
      const changes = change(current);
      if (Object.keys(changes).length === 0) return current;
      const batch = { ...current, ...changes };
      await this.#folder.write(id, batch);
      this.#batches.set(batch);
      return batch;
    });
  }

  /** Ends a batch and removes its results, which are in its files now. */
  async finish(batch: BatchRecord): Promise<void> {
    await this.update(batch, ({ outcome }) => ({ status: outcome!, finishedAtMs: this.now() }));
    this.countResults(batch, 0);
    await rm(this.resultsPath(batch.id), { force: true });
  }

  resultsPath(id: string): string {
    return join(this.#folder.path, `${id}${RESULTS}`);
  }

  /** Counts what the results of a batch take now, whatever was counted of them before. */
  countResults({ scope, id }: BatchRecord, bytes: number): void {
    this.bytes.add(scope, bytes - this.#resultBytesOf(id));
    if (bytes === 0) this.#resultBytes.delete(id);
    else this.#resultBytes.set(id, bytes);
  }

  /** Counts a result before it is written. Throws 413 when the scope has no room for it. */
  takeResult({ scope, id }: BatchRecord, bytes: number): void {
    this.bytes.take(scope, bytes);
    this.#resultBytes.set(id, this.#resultBytesOf(id) + bytes);
  }

  /**
   * Makes a draft a file, as `FileStore.publish` does; the caller discards it when that fails. Throws 429 when the scope has too
   * many files; those of batches were counted when the batch was accepted.
   */
  async publish(draft: FileDraft, details: FileDetails, id?: string): Promise<StoredFile> {
    await draft.seal();
    return this.#changes.take(async () => {
      if (details.purpose !== 'batch_output') this.#checkFileCount(draft.scope, 1);
      return this.files.publish(draft, details, id);
    });
  }

  /** Throws 404, or 409 while an unfinished batch reads the file. */
  deleteFile(scope: string, id: string): Promise<void> {
    return this.#changes.take(async () => {
      const file = this.files.get(scope, id);
      const reader = this.#readerOf(file);
      if (reader) throw new RequestError(409, `the batch ${reader.id} reads this file`, { hint: 'cancel the batch first' });
      await this.files.remove(file);
    });
  }

  /** Removes files whose time is over and that no batch reads, and forgets batches that were finished as long ago. */
  sweep(): Promise<void> {
    return this.#changes.take(async () => {
      for (const file of this.files.expired()) if (!this.#readerOf(file)) await this.files.remove(file);
      const oldest = this.now() - this.limits.retentionDays * 86_400_000;
      const past = this.#batches.all().filter(({ finishedAtMs }) => finishedAtMs !== undefined && finishedAtMs <= oldest);
      for (const batch of past) await this.#forget(batch);
    });
  }

  #checkOrder(scope: string, { inputFileId }: BatchOrder): void {
    const { purpose } = this.files.get(scope, inputFileId, 'input_file_id');
    if (purpose !== 'batch') {
      throw new RequestError(400, `the purpose of the file is ${purpose}, not batch`, { param: 'input_file_id' });
    }
    const { maxUnfinishedBatches } = this.limits;
    if (this.#unfinishedCount(scope) >= maxUnfinishedBatches) {
      throw new RequestError(429, `this key has ${maxUnfinishedBatches} unfinished batches, the most that it may`, {
        hint: 'wait for them, or cancel some',
        retryAfterSeconds: 60,
      });
    }
    this.#checkFileCount(scope, FILES_OF_BATCH);
  }

  /** What unfinished batches will write is kept free, so that none of them computes what it has no room for. */
  #checkFileCount(scope: string, more: number): void {
    const { maxFiles } = this.limits;
    const count = this.files.count(scope);
    const promised = FILES_OF_BATCH * this.#unfinishedCount(scope);
    if (count + promised + more <= maxFiles) return;
    const kept = promised === 0 ? '' : `, and ${promised} more are kept free for its unfinished batches`;
    throw new RequestError(429, `this key has ${count} of the ${maxFiles} files that it may have${kept}`, {
      hint: 'delete some',
    });
  }

  #unfinishedCount(scope: string): number {
    return this.#batches.list(scope).filter((batch) => !isFinished(batch)).length;
  }

  #resultBytesOf(id: string): number {
    return this.#resultBytes.get(id) ?? 0;
  }

  #readerOf({ scope, id }: StoredFile): BatchRecord | undefined {
    return this.#batches.list(scope).find((batch) => batch.inputFileId === id && !isFinished(batch));
  }

  async #forgetOldest(scope: string): Promise<void> {
    const finished = this.#batches.list(scope).filter(isFinished);
    for (const batch of finished.slice(this.limits.maxFinishedBatches)) await this.#forget(batch);
  }

  async #forget(batch: BatchRecord): Promise<void> {
    await this.#folder.remove(batch.id);
    this.#batches.delete(batch);
  }

  async #addFound(batch: BatchRecord): Promise<void> {
    this.#batches.set(batch);
    if (isFinished(batch)) await rm(this.resultsPath(batch.id), { force: true });
  }
}
