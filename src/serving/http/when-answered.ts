import type { Context } from 'hono';
import { connectionOf } from './connection.js';

/**
 * Calls `done` once, when the answer is complete: for a stream after its last byte, or when nobody reads it any more; of an answer
 * to HEAD nobody reads any. To be called behind `next()`.
 */
export function whenAnswered(context: Context, done: () => void): void {
  const { body, headers } = context.res;
  const connection = connectionOf(context);
  const isComplete = body === null || headers.get('content-type')?.startsWith('application/json');
  if (isComplete || connection?.closed) done();
  else if (context.req.method === 'HEAD') body.cancel().then(done, done);
  else if (connection) connection.once('close', done);
  else context.res = new Response(watchEnd(body, once(done)), context.res);
}

/** A reader who leaves while it waits ends its own waiting too. */
function once(done: () => void): () => void {
  let isDone = false;
  return () => {
    if (!isDone) done();
    isDone = true;
  };
}

/** Hands a stream through, no faster than it is read. */
function watchEnd(body: ReadableStream<Uint8Array>, done: () => void): ReadableStream<Uint8Array> {
  const reader = body.getReader();
  return new ReadableStream(
    {
      async pull(controller) {
        try {
          const { done: isOver, value } = await reader.read();
          if (!isOver) return controller.enqueue(value);
          controller.close();
        } catch (error) {
          controller.error(error);
        }
        done();
      },
      cancel(reason) {
        done();
        return reader.cancel(reason);
      },
    },
    { highWaterMark: 0 },
  );
}
