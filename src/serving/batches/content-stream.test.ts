import { type FileHandle, mkdtemp, open, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { contentStream } from './content-stream.js';

const SIZE = 1 << 20;
/** What a handle says that is closed. */
const CLOSED = -1;

let folder: string;
let file: FileHandle;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cartridges-content-'));
  await writeFile(join(folder, 'file'), new Uint8Array(SIZE).fill(7));
  file = await open(join(folder, 'file'), 'r');
});
afterEach(async () => {
  await file.close();
  await rm(folder, { recursive: true });
});

it('gives all bytes and closes the file', async () => {
  const { signal } = new AbortController();
  const bytes = await new Response(contentStream(file, { signal, dropConnection: undefined })).arrayBuffer();
  expect(Buffer.from(bytes).equals(Buffer.alloc(SIZE, 7))).toBe(true);
  expect(file.fd).toBe(CLOSED);
});

it('reads no more once its request is over, and fails a reader without a connection', async () => {
  const request = new AbortController();
  const reader = contentStream(file, { signal: request.signal, dropConnection: undefined }).getReader();
  await reader.read();
  const next = reader.read();
  request.abort(new Error('too late'));
  await expect(next).rejects.toThrow('too late');
  await expect.poll(() => file.fd).toBe(CLOSED);
});

it('closes the file of a reader who takes nothing, and its connection', async () => {
  const request = new AbortController();
  const dropConnection = vi.fn();
  const reader = contentStream(file, { signal: request.signal, dropConnection }).getReader();
  await reader.read();
  request.abort();
  await expect.poll(() => file.fd).toBe(CLOSED);
  expect(dropConnection).toHaveBeenCalledOnce();
  await reader.cancel();
});

it('does not begin for a request that is over', async () => {
  const stream = contentStream(file, { signal: AbortSignal.abort(new Error('gone')), dropConnection: undefined });
  await expect(stream.getReader().read()).rejects.toThrow('gone');
  await expect.poll(() => file.fd).toBe(CLOSED);
});

it('is closed by a reader who leaves', async () => {
  const { signal } = new AbortController();
  await contentStream(file, { signal, dropConnection: undefined }).cancel();
  expect(file.fd).toBe(CLOSED);
});
