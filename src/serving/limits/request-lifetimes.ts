import { CartridgesError } from '../../core/errors.js';
import { RequestError } from '../request-error.js';

/** One request from its head to the last byte of its answer. */
export interface RequestLifetime {
  /** Aborted when the client is gone, the request has taken too long, or the server stops. */
  readonly signal: AbortSignal;
  /** To be called when the answer is complete or nobody reads it any more. */
  end(): void;
}

/** The requests that are under way; each has a signal that ends its work. */
export class RequestLifetimes {
  readonly #underWay = new Set<AbortController>();

  /** @param client  Aborted when the client goes away. */
  begin(client: AbortSignal, limitSeconds: number): RequestLifetime {
    const controller = new AbortController();
    const leave = () => controller.abort(clientLeft(client.reason));
    if (client.aborted) leave();
    client.addEventListener('abort', leave, { once: true });
    const timer = setTimeout(() => controller.abort(tooLate(limitSeconds)), limitSeconds * 1000);
    this.#underWay.add(controller);
    return {
      signal: controller.signal,
      end: () => {
        clearTimeout(timer);
        client.removeEventListener('abort', leave);
        this.#underWay.delete(controller);
      },
    };
  }

  /** Ends the work of every request; their clients read that the server stops. */
  abortAll(): void {
    for (const controller of this.#underWay) controller.abort(new RequestError(503, 'the server stops'));
  }
}

/** An error, whatever the reason is: the listener of Node gives a text, and what is no error passes by every handler of errors. */
function clientLeft(reason: unknown): CartridgesError {
  return new CartridgesError('CANCELLED', 'the client has left', { cause: reason });
}

function tooLate(seconds: number): RequestError {
  return new RequestError(408, `the request was not done within ${seconds} s`);
}
