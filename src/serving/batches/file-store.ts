import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { rethrow } from '../../core/errors.js';
import { formatBytes } from '../../core/format-bytes.js';
import { notFound, RequestError } from '../request-error.js';
import type { BatchLimits } from './batch-limits.js';
import { type DraftBytes, FileDraft } from './file-draft.js';
import { RecordFolder } from './record-folder.js';
import type { ScopeBytes } from './scope-bytes.js';
import { ScopedRecords } from './scoped-records.js';

/** What OpenAI's clients may say that a file is for. Batches read `batch`; the others are stored as they are. */
export const UPLOAD_PURPOSES = ['batch', 'assistants', 'fine-tune', 'vision', 'user_data', 'evals'] as const;
export const FILE_PURPOSES = [...UPLOAD_PURPOSES, 'batch_output'] as const;

const FILE_ID = /^file-[0-9a-f]{32}$/;
const CONTENT = '.content';

const storedFileSchema = z.strictObject({
  id: z.string().regex(FILE_ID),
  scope: z.string(),
  filename: z.string(),
  purpose: z.enum(FILE_PURPOSES),
  bytes: z.int().min(0),
  createdAtMs: z.int(),
  expiresAtMs: z.int(),
});

export type StoredFile = Readonly<z.output<typeof storedFileSchema>>;

/** What is decided about a file when it is published. */
export interface FileDetails {
  filename: string;
  purpose: StoredFile['purpose'];
  /** Without it the file is kept for the days of the settings. */
  expiresAfterSeconds?: number | undefined;
}

export interface FileStoreOptions {
  folder: string;
  limits: BatchLimits;
  /** Shared with whatever else belongs to a scope. */
  bytes: ScopeBytes;
  now: () => number;
  warn: (message: string) => void;
}

export function newFileId(): string {
  return `file-${randomBytes(16).toString('hex')}`;
}

/**
 * Files on disk, each the property of a scope: a content, and a record whose writing is the moment at which the file is there.
 * Names of files on disk are ids that were drawn here; what clients send never becomes part of a path.
 */
export class FileStore {
  readonly #options: FileStoreOptions;
  readonly #folder: RecordFolder<StoredFile>;
  readonly #files = new ScopedRecords<StoredFile>();

  private constructor(options: FileStoreOptions) {
    this.#options = options;
    this.#folder = new RecordFolder(join(options.folder, 'files'), storedFileSchema);
  }

  /** Reads what is there, and removes what an interrupted upload or deletion left. */
  static async open(options: FileStoreOptions): Promise<FileStore> {
    const store = new FileStore(options);
    await rm(store.#incoming, { recursive: true, force: true });
    await mkdir(store.#incoming, { recursive: true }).catch(rethrow);
    for (const file of await store.#folder.open(options.warn)) await store.#addFound(file);
    await store.#folder.removeOrphans(CONTENT);
    return store;
  }

  /** Throws 404 for what does not exist, has expired or belongs to another scope. */
  get(scope: string, id: string, param?: string): StoredFile {
    const file = this.#files.get(scope, id);
    if (file === undefined || this.#isExpired(file)) throw notFound('file', id, param);
    return file;
  }

  has(scope: string, id: string): boolean {
    return this.#files.get(scope, id) !== undefined;
  }

  /** Files on the disk, with those whose time is over and that were not removed yet. */
  count(scope: string): number {
    return this.#files.list(scope).length;
  }

  /** The newest first. */
  list(scope: string): StoredFile[] {
    return this.#files.list(scope).filter((file) => !this.#isExpired(file));
  }

  expired(): StoredFile[] {
    return this.#files.all().filter((file) => this.#isExpired(file));
  }

  path(id: string): string {
    return join(this.#folder.path, `${id}${CONTENT}`);
  }

  /** The content, to be closed by the caller; a deletion does not disturb who reads. */
  async openContent({ id }: StoredFile): Promise<FileHandle> {
    return open(this.path(id), 'r').catch(rethrow);
  }

  /** A draft whose bytes are bounded as uploads are. Throws 413 while it is written. */
  beginUpload(scope: string): Promise<FileDraft> {
    const { limits, bytes } = this.#options;
    let size = 0;
    return this.#begin(scope, (count) => {
      size += count;
      if (size > limits.maxFileBytes) {
        throw new RequestError(413, `a file may have at most ${formatBytes(limits.maxFileBytes)}`, { param: 'file' });
      }
      bytes.take(scope, count);
    });
  }

  /** A draft for what a batch has written: its bytes were bounded when they came. */
  beginOutput(scope: string): Promise<FileDraft> {
    return this.#begin(scope, (count) => this.#options.bytes.add(scope, count));
  }

  /** Makes a sealed draft a file with an id that none has. The caller discards the draft when that fails. */
  async publish(draft: FileDraft, { expiresAfterSeconds, ...details }: FileDetails, id = newFileId()): Promise<StoredFile> {
    const { limits, now } = this.#options;
    const createdAtMs = now();
    const keptMs = expiresAfterSeconds === undefined ? limits.retentionDays * 86_400_000 : expiresAfterSeconds * 1000;
    const file = { id, scope: draft.scope, ...details, bytes: draft.bytes, createdAtMs, expiresAtMs: createdAtMs + keptMs };
    await draft.moveTo(this.path(id));
    try {
      await this.#folder.write(id, file);
    } catch (error) {
      // It is written when only its folder could not be synced.
      await this.#folder.remove(id);
      throw error;
    }
    this.#files.set(file);
    return file;
  }

  async remove(file: StoredFile): Promise<void> {
    await this.#folder.remove(file.id);
    this.#files.delete(file);
    this.#options.bytes.add(file.scope, -file.bytes);
    await rm(this.path(file.id), { force: true });
  }

  get #incoming(): string {
    return join(this.#options.folder, 'incoming');
  }

  #begin(scope: string, take: DraftBytes['take']): Promise<FileDraft> {
    const giveBack = (bytes: number) => this.#options.bytes.add(scope, -bytes);
    return FileDraft.create(scope, join(this.#incoming, randomBytes(16).toString('hex')), { take, giveBack });
  }

  async #addFound(file: StoredFile): Promise<void> {
    const { bytes, warn } = this.#options;
    const size = await stat(this.path(file.id)).then(
      (status) => status.size,
      () => -1,
    );
    if (size !== file.bytes) return warn(`${this.path(file.id)} is missing or was changed; it is left out`);
    this.#files.set(file);
    bytes.add(file.scope, file.bytes);
  }

  #isExpired({ expiresAtMs }: StoredFile): boolean {
    return expiresAtMs <= this.#options.now();
  }
}
