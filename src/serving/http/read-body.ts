import { RequestError } from '../request-error.js';

/** A stream that fails with 413 as soon as more than `maxBytes` have come, and with the reason of the signal when that aborts. */
export function limitStream(
  stream: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal?: AbortSignal,
): ReadableStream<Uint8Array> {
  let bytes = 0;
  const limit = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.byteLength;
      if (bytes > maxBytes) throw tooLarge(maxBytes);
      controller.enqueue(chunk);
    },
  });
  return stream.pipeThrough(limit, signal ? { signal } : {});
}

export async function readStream(stream: ReadableStream<Uint8Array>): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array[] = [];
  for await (const chunk of stream) chunks.push(chunk);
  return Buffer.concat(chunks);
}

export function tooLarge(maxBytes: number): RequestError {
  return new RequestError(413, `the body has more than ${maxBytes} bytes`);
}
