import { parentPort } from 'node:worker_threads';
import { CartridgesError, toCartridgesError } from './errors.js';
import type { CloseMessage, WorkerMessage, WorkerReply, WorkerRequests } from './worker-requests.js';

export interface RequestHandler<Requests extends WorkerRequests<Requests>> {
  handle(request: WorkerMessage<Requests>): Requests[keyof Requests]['answer'];
  dispose?(): void;
}

/**
 * Answers the requests of a `WorkerThread`, on its side. The handler is made for the first one, whose answer then says why it could
 * not be, with `ENGINE_FAILURE` where the error has no code; `name` is that of the thread. Throws `INTERNAL` on any other thread.
 */
export function serveRequests<Requests extends WorkerRequests<Requests>>(
  name: string,
  make: () => RequestHandler<Requests>,
): void {
  if (!parentPort) throw new CartridgesError('INTERNAL', 'the file of a worker thread was loaded by another thread');
  const port = parentPort;
  let handler: RequestHandler<Requests> | undefined;
  port.on('message', (request: WorkerMessage<Requests> | CloseMessage) => {
    if (request.kind === 'close') {
      handler?.dispose?.();
      port.close();
      return;
    }
    port.postMessage(
      answer(() => {
        handler ??= started(name, make);
        return handler.handle(request as WorkerMessage<Requests>);
      }),
    );
  });
}

function started<Handler>(name: string, make: () => Handler): Handler {
  try {
    return make();
  } catch (thrown) {
    if (CartridgesError.is(thrown)) throw thrown;
    throw new CartridgesError('ENGINE_FAILURE', `${name} cannot start: ${(thrown as Error).message}`, { cause: thrown });
  }
}

function answer<Requests extends WorkerRequests<Requests>>(
  handle: () => Requests[keyof Requests]['answer'],
): WorkerReply<Requests> {
  try {
    return { answer: handle() };
  } catch (thrown) {
    const { code, message, hint } = toCartridgesError(thrown);
    return { error: { code, message, hint } };
  }
}
