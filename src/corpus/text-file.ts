import { open } from 'node:fs/promises';
import { CartridgesError, toCartridgesError } from '../core/errors.js';

/** Largest text file that is read; a whole file is held in memory. */
export const MAXIMUM_TEXT_FILE_BYTES = 64 << 20;

/** The text of UTF-8 bytes without a byte order mark, or undefined when they are something else. */
export function decodeText(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Bytes of a file. Throws `FILE_NOT_FOUND`, or `INVALID_INPUT` above `MAXIMUM_TEXT_FILE_BYTES`, before anything is read. */
export async function readBoundedFile(path: string, signal?: AbortSignal): Promise<Uint8Array> {
  try {
    const handle = await open(path);
    try {
      const { size } = await handle.stat();
      if (size > MAXIMUM_TEXT_FILE_BYTES) throw tooLarge(path, size);
      return await handle.readFile({ signal });
    } finally {
      await handle.close();
    }
  } catch (error) {
    throw toCartridgesError(error);
  }
}

function tooLarge(path: string, sizeBytes: number): CartridgesError {
  const limit = `${MAXIMUM_TEXT_FILE_BYTES >> 20} MiB`;
  return new CartridgesError('INVALID_INPUT', `${path} has ${sizeBytes} bytes; a text file may have ${limit}`, {
    hint: 'split the file, or move it out of the folder',
  });
}
