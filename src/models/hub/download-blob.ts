import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import { CartridgesError, toCartridgesError } from '../../core/errors.js';
import { takeBlobLock } from './blob-lock.js';
import { bodyPieces, type HubClient } from './hub-client.js';
import type { Digest, RepositoryFile } from './repository.js';
import { TransientFailure, withRetries } from './retry.js';

export interface BlobDownload {
  client: HubClient;
  url: string;
  file: RepositoryFile;
  /** Where the bytes go. Until they are complete and checked they are in `<target>.incomplete`. */
  target: string;
  /** Told how many bytes are there. */
  onBytes: (done: number) => void;
  /** Told once when another process downloads the file already. */
  onWait?: (message: string) => void;
}

/**
 * Downloads one file, continuing what an earlier try left, and checks its hash. While another process of this machine downloads
 * the same file, this waits for it, and takes what it has brought.
 *
 * @throws {CartridgesError}  `DOWNLOAD_FAILED` (connection, access, wrong bytes) or `DISK_FULL`; the part that came stays,
 *                            unless its bytes are wrong.
 */
export async function downloadBlob(download: BlobDownload): Promise<void> {
  const { client, file, target, onBytes, onWait } = download;
  const partial = `${target}.incomplete`;
  try {
    const lock = await takeBlobLock(`${partial}.lock`, { name: file.path, signal: client.retry.signal, onWait });
    try {
      if (await hasBlob(target, file.sizeBytes)) onBytes(file.sizeBytes);
      else await fetchBlob(partial, download);
    } finally {
      await lock.release();
    }
  } catch (error) {
    throw toCartridgesError(error);
  }
}

/** Whether a file was downloaded: it gets its name only after its hash was right, so its size tells enough. */
export async function hasBlob(target: string, sizeBytes: number): Promise<boolean> {
  const found = await stat(target).catch(() => undefined);
  return found?.size === sizeBytes;
}

async function fetchBlob(partial: string, download: BlobDownload): Promise<void> {
  await fetchInto(partial, download);
  await verify(partial, download);
  await rename(partial, download.target);
}

async function fetchInto(partial: string, download: BlobDownload): Promise<void> {
  const { client, file } = download;
  // 'a+' makes the file when there is none; 'r+' is needed because appending ignores positions.
  await (await open(partial, 'a+')).close();
  const handle = await open(partial, 'r+');
  try {
    let position = (await handle.stat()).size;
    if (position > file.sizeBytes) {
      await handle.truncate(0);
      position = 0;
    }
    await checkFreeSpace(partial, file.sizeBytes - position, file.path);
    const write = async () => {
      for await (const reached of fetchRest(handle, position, download)) {
        position = reached;
        download.onBytes(position);
      }
    };
    await withRetries(write, { ...client.retry, progress: () => position });
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Writes what is missing from `position` on; yields the position after each piece. */
async function* fetchRest(handle: FileHandle, position: number, download: BlobDownload): AsyncGenerator<number> {
  const { client, url, file } = download;
  if (position === file.sizeBytes) return;
  const { response, hubHeaders } = await client.get(url, file.path, position > 0 ? { range: `bytes=${position}-` } : undefined);
  checkAnnouncedHash(hubHeaders, file);
  let reached = response.status === 206 ? position : 0;
  if (response.status === 206) checkRange(response, position, file);
  else await handle.truncate(0);
  yield reached;
  for await (const piece of bodyPieces(response)) {
    if (reached + piece.byteLength > file.sizeBytes) throw tooLong(file);
    await writeAll(handle, piece, reached);
    reached += piece.byteLength;
    yield reached;
  }
  if (reached < file.sizeBytes) throw new TransientFailure('the connection ended early');
}

async function writeAll(handle: FileHandle, piece: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < piece.byteLength; ) {
    const { bytesWritten } = await handle.write(piece, written, piece.byteLength - written, position + written);
    written += bytesWritten;
  }
}

/** The hub announces the hash of a large file before its bytes come. */
function checkAnnouncedHash(headers: Headers, file: RepositoryFile): void {
  const announced = headers.get('x-linked-etag')?.replace(/^W\//, '').replaceAll('"', '');
  if (announced === undefined || announced.length !== file.digest.hex.length || announced === file.digest.hex) return;
  throw new CartridgesError('DOWNLOAD_FAILED', `the hub lists ${file.path} with another hash than it serves`, {
    hint: 'the repository changed meanwhile, or the mirror in HF_ENDPOINT is out of date; try again',
  });
}

function checkRange(response: Response, position: number, file: RepositoryFile): void {
  const range = response.headers.get('content-range') ?? 'no content-range';
  if (range.startsWith(`bytes ${position}-`)) return;
  throw new CartridgesError('DOWNLOAD_FAILED', `the hub sent another range of ${file.path} than byte ${position} on: ${range}`);
}

function tooLong(file: RepositoryFile): CartridgesError {
  return new CartridgesError('DOWNLOAD_FAILED', `the hub sent more than the ${file.sizeBytes} bytes of ${file.path}`);
}

async function checkFreeSpace(path: string, neededBytes: number, name: string): Promise<void> {
  const { blocks, bavail, bsize } = await statfs(dirname(path));
  // Some network file systems do not know their size and say 0.
  if (blocks === 0 || bavail * bsize >= neededBytes) return;
  const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;
  throw new CartridgesError(
    'DISK_FULL',
    `${name} needs ${megabytes(neededBytes)} and ${megabytes(bavail * bsize)} are free in ${dirname(path)}`,
    { hint: 'free some space or set HF_HUB_CACHE to a folder on another disk; what came so far is kept' },
  );
}

async function verify(partial: string, download: BlobDownload): Promise<void> {
  const { path, digest } = download.file;
  const found = await hashFile(partial, digest.algorithm, download.client.retry.signal);
  if (found === digest.hex) return;
  await rm(partial, { force: true });
  throw new CartridgesError('DOWNLOAD_FAILED', `the bytes of ${path} are damaged: their hash is ${found}, not ${digest.hex}`, {
    hint: 'they were deleted; run the same command again to download the file afresh',
  });
}

async function hashFile(path: string, algorithm: Digest['algorithm'], signal: AbortSignal | undefined): Promise<string> {
  const hash = createHash(algorithm === 'git-sha1' ? 'sha1' : algorithm);
  if (algorithm === 'git-sha1') hash.update(`blob ${(await stat(path)).size}\0`);
  for await (const piece of createReadStream(path, { highWaterMark: 4 << 20, signal })) hash.update(piece);
  return hash.digest('hex');
}
