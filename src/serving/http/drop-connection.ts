import type { Context } from 'hono';

/** The part of node's answer that a handler finds in `env` when a socket stands behind its request. */
interface NodeBindings {
  outgoing?: { destroy(): void };
}

/** Closes the connection of a reader who is to get no more, which ending the stream alone would not do; undefined without one. */
export function dropConnectionOf({ env }: Context): (() => void) | undefined {
  const { outgoing } = (env ?? {}) as NodeBindings;
  return outgoing && (() => outgoing.destroy());
}
