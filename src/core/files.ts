import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { toCartridgesError } from './errors.js';

/**
 * Writes a file beside its final name, syncs it and renames it: a reader sees the old file or the whole new one, and a
 * failure leaves the old file as it was. Missing folders are made.
 */
export async function writeFileAtomic(path: string, data: string | Uint8Array): Promise<void> {
  await replaceFile(path, async (handle) => {
    await handle.writeFile(data);
  });
}

/**
 * The same for content that is written in pieces by `write`, to the open file or, by a library, to its name until then. Throws
 * `DISK_FULL` when the disk is.
 */
export async function replaceFile(path: string, write: (handle: FileHandle, temporary: string) => Promise<void>): Promise<void> {
  const folder = dirname(path);
  const temporary = join(folder, `.${basename(path)}.${randomBytes(6).toString('hex')}.part`);
  try {
    await mkdir(folder, { recursive: true });
    const handle = await open(temporary, 'wx');
    try {
      await write(handle, temporary);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw toCartridgesError(withPath(error, path));
  }
}

/** The system does not say which file a failed write or sync belongs to. */
function withPath(error: unknown, path: string): unknown {
  return error instanceof Error && 'syscall' in error && !('path' in error) ? Object.assign(error, { path }) : error;
}

/** Throws when a file of this name could not be written: asked before long work, not after it. */
export async function assertWritable(path: string): Promise<void> {
  const probe = join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.part`);
  try {
    await mkdir(dirname(path), { recursive: true });
    await (await open(probe, 'wx')).close();
  } catch (error) {
    throw toCartridgesError(error);
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}

/** Writes a value as indented JSON, atomically. */
export async function writeJsonAtomic(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}
