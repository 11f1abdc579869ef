import type { FileHandle } from 'node:fs/promises';

const CHUNK_BYTES = 1 << 16;

export interface ContentReader {
  /** Ends the reading at once, also in the middle of the file. */
  signal: AbortSignal;
  /** Closes the connection of a reader who is to get no more. */
  dropConnection: (() => void) | undefined;
}

/** The bytes of an open file, read no faster than they are taken; the handle is closed at the end, or when nobody reads on. */
export function contentStream(file: FileHandle, { signal, dropConnection }: ContentReader): ReadableStream<Uint8Array> {
  let stop = () => {};
  const close = () => {
    signal.removeEventListener('abort', stop);
    return file.close();
  };
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        stop = () => {
          if (dropConnection) dropConnection();
          else controller.error(signal.reason);
          // What was only read has nothing to lose.
          close().catch(() => undefined);
        };
        if (signal.aborted) stop();
        else signal.addEventListener('abort', stop);
      },
      async pull(controller) {
        const { bytesRead, buffer } = await file.read(new Uint8Array(CHUNK_BYTES), 0, CHUNK_BYTES);
        if (signal.aborted) return;
        if (bytesRead > 0) return controller.enqueue(buffer.subarray(0, bytesRead));
        await close();
        controller.close();
      },
      cancel: close,
    },
    { highWaterMark: 0 },
  );
}
