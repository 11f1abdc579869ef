import { randomBytes } from 'node:crypto';
import { type FileHandle, mkdir, open, readlink, realpath, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { CartridgesError, toCartridgesError } from './errors.js';

/**
 * Writes a file beside its final name, syncs it and renames it: a reader sees the old file or the whole new one, and a
 * failure leaves the old file as it was. Missing folders are made, and a link stays one: the file that it leads to is written.
 * Throws `INVALID_OPTION` when something else than a file has the name.
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
  const target = await fileBehind(path);
  const temporary = partBeside(target);
  try {
    await mkdir(dirname(target), { recursive: true });
    const handle = await open(temporary, 'wx');
    try {
      await write(handle, temporary);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => undefined);
    throw toCartridgesError(withPath(error, path));
  }
}

/** The system does not say which file a failed write or sync belongs to. */
export function withPath(error: unknown, path: string): unknown {
  return error instanceof Error && 'syscall' in error && !('path' in error) ? Object.assign(error, { path }) : error;
}

/**
 * Throws when a file of this name could not be written, as writing it would: asked before long work, not after it. Makes missing
 * folders.
 */
export async function assertWritable(path: string): Promise<void> {
  const target = await fileBehind(path);
  const probe = partBeside(target);
  try {
    await mkdir(dirname(target), { recursive: true });
    await (await open(probe, 'wx')).close();
  } catch (error) {
    throw toCartridgesError(error);
  } finally {
    await rm(probe, { force: true }).catch(() => undefined);
  }
}

/** A new name beside a path, for what is renamed to it when it is whole: `.name.random.part`. */
export function partBeside(path: string): string {
  return join(dirname(path), `.${basename(path)}.${randomBytes(6).toString('hex')}.part`);
}

/**
 * The name of the file that a name leads to, which need not be there yet. To rename over a link would replace the link, and over
 * a device, such as /dev/null, would take it from everybody.
 */
async function fileBehind(path: string): Promise<string> {
  const found = await stat(path).catch(undefinedWhenMissing);
  if (found === undefined) return missingFileBehind(path);
  if (found.isFile()) return realpath(path);
  throw new CartridgesError('INVALID_OPTION', `${path} is there and is no regular file`, {
    hint: 'use another name, for a new file or one to replace',
  });
}

/** A link may lead to a file that is still to be made. */
async function missingFileBehind(path: string): Promise<string> {
  const link = await readlink(path).catch(() => undefined);
  return link === undefined ? path : fileBehind(resolve(await realpath(dirname(path)), link));
}

function undefinedWhenMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return undefined;
  throw toCartridgesError(error);
}

/** Writes a value as indented JSON, atomically. */
export async function writeJsonAtomic(path: string, value: unknown): Promise<void> {
  await writeFileAtomic(path, `${JSON.stringify(value, null, 2)}\n`);
}
