import type { FileHandle } from 'node:fs/promises';

const CHUNK_BYTES = 1 << 16;

/** The bytes of an open file, read no faster than they are taken; the handle is closed at the end, or when nobody reads on. */
export function contentStream(file: FileHandle): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const { bytesRead, buffer } = await file.read(new Uint8Array(CHUNK_BYTES), 0, CHUNK_BYTES);
        if (bytesRead > 0) return controller.enqueue(buffer.subarray(0, bytesRead));
        await file.close();
        controller.close();
      },
      cancel: () => file.close(),
    },
    { highWaterMark: 0 },
  );
}
