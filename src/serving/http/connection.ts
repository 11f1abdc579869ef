import type { Context } from 'hono';

/** The part of node's answer that a handler finds in `env` when a socket stands behind its request. */
interface Connection {
  /** There is nothing more to send, or nobody to send it to. */
  readonly closed: boolean;
  once(event: 'close', listener: () => void): void;
  destroy(): void;
}

interface NodeBindings {
  outgoing?: Connection;
}

/** What the answer goes out over; undefined where a request did not come over the network. */
export function connectionOf({ env }: Context): Connection | undefined {
  return ((env ?? {}) as NodeBindings).outgoing;
}

/** Closes the connection of a reader who is to get no more, which ending the stream alone would not do; undefined without one. */
export function dropConnectionOf(context: Context): (() => void) | undefined {
  const connection = connectionOf(context);
  return connection && (() => connection.destroy());
}
