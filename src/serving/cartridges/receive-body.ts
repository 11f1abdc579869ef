import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { throwIfAborted } from '../../core/errors.js';
import { formatBytes } from '../../core/format-bytes.js';
import { RequestError } from '../request-error.js';
import { hideSystemError } from './server-failure.js';

export interface IncomingBody {
  stream: ReadableStream<Uint8Array>;
  /** What the header `Content-Length` says, if there is one; a hint that is checked. */
  announcedBytes?: number;
}

/**
 * Streams the body of a request into a new file and returns its SHA-256. Throws a 413 as soon as more than `maxBytes` are
 * announced or come, a 400 when less or more come than announced, and `CANCELLED` with the signal; the caller removes the file.
 */
export async function receiveBody(
  { stream, announcedBytes }: IncomingBody,
  path: string,
  options: { maxBytes: number; signal: AbortSignal },
): Promise<string> {
  const { maxBytes, signal } = options;
  if ((announcedBytes ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const file = await open(path, 'wx').catch(rethrow);
  const reader = stream.getReader();
  const stop = () => void reader.cancel().catch(() => undefined);
  signal.addEventListener('abort', stop, { once: true });
  try {
    const { sha256, bytes } = await writeAll(reader, file, maxBytes);
    throwIfAborted(signal);
    if (announcedBytes !== undefined && announcedBytes !== bytes) {
      throw new RequestError(400, `the body has ${bytes} bytes, and ${announcedBytes} were announced`);
    }
    await file.sync();
    return sha256;
  } catch (error) {
    stop();
    throw hideSystemError(error);
  } finally {
    signal.removeEventListener('abort', stop);
    await file.close();
  }
}

async function writeAll(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  file: FileHandle,
  maxBytes: number,
): Promise<{ sha256: string; bytes: number }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { sha256: hash.digest('hex'), bytes };
    bytes += value.byteLength;
    if (bytes > maxBytes) throw tooLarge(maxBytes);
    hash.update(value);
    await file.writeFile(value);
  }
}

function tooLarge(maxBytes: number): RequestError {
  return new RequestError(413, `a cartridge may have at most ${formatBytes(maxBytes)}`);
}

function rethrow(error: unknown): never {
  throw hideSystemError(error);
}
