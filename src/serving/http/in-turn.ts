import type { RequestListener } from 'node:http';
import type { Socket } from 'node:net';

/** A client that sends more without waiting for answers is cut off: what waits here takes memory that nothing else bounds. */
const MAX_WAITING = 16;

/**
 * Begins a request that came behind another on its connection when that one is answered. Node would begin it at once, and, when the
 * connection ends before its turn to answer comes, never say so: it would hold its place for ever.
 */
export function inTurn(listener: RequestListener): RequestListener {
  const waiting = new WeakMap<Socket, number>();
  return (incoming, outgoing) => {
    // Whoever has its turn has the socket to answer on.
    if (outgoing.socket) return listener(incoming, outgoing);
    const { socket } = incoming;
    const count = (waiting.get(socket) ?? 0) + 1;
    if (count > MAX_WAITING) return void socket.destroy();
    waiting.set(socket, count);
    outgoing.once('socket', () => {
      waiting.set(socket, (waiting.get(socket) ?? 1) - 1);
      if (!socket.destroyed) listener(incoming, outgoing);
    });
  };
}
