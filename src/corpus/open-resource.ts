import { realpath, stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { CartridgesError, toCartridgesError } from '../core/errors.js';
import type { ProgressListener } from '../core/progress.js';
import { FolderResource } from './folder-resource.js';
import type { Resource } from './resource.js';
import { TextResource } from './text-resource.js';

/**
 * The resource behind a path: a text file or a folder of them. `onProgress` hears of files that a folder's reading skips.
 * Throws `FILE_NOT_FOUND`, and `INVALID_INPUT` for what is neither file nor folder.
 */
export async function openResource(path: string, onProgress?: ProgressListener): Promise<Resource> {
  const absolute = resolve(path);
  try {
    const status = await stat(absolute);
    if (status.isFile()) return new TextResource(absolute);
    if (status.isDirectory()) return new FolderResource(await realpath(absolute), onProgress);
  } catch (error) {
    throw describeMissing(path, error);
  }
  throw new CartridgesError('INVALID_INPUT', `${path} is neither a file nor a folder`, { hint: 'give a text file or a folder' });
}

function describeMissing(path: string, thrown: unknown): CartridgesError {
  const error = toCartridgesError(thrown);
  if (error.code !== 'FILE_NOT_FOUND') return error;
  return new CartridgesError('FILE_NOT_FOUND', `${path} does not exist`, { hint: 'check the path of the text', cause: thrown });
}
