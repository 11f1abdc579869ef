/**
 * Divides the room of a batch among prompts that are read at the same time, in the order of their start. The first one takes
 * half, the others the rest in even parts: a short prompt does not wait for a long one, and a long one is not held up by many.
 * What one does not need goes to the others.
 */
export function shareRoom(unread: readonly number[], room: number): number[] {
  const shares = unread.map(() => 0);
  if (unread.length === 0) return shares;
  shares[0] = Math.min(unread[0] as number, unread.length === 1 ? room : Math.ceil(room / 2));
  let left = divideEvenly(unread, shares, room - (shares[0] as number), 1);
  for (let i = 0; i < unread.length && left > 0; i++) {
    const more = Math.min((unread[i] as number) - (shares[i] as number), left);
    shares[i] = (shares[i] as number) + more;
    left -= more;
  }
  return shares;
}

/** Raises shares from `first` on, the small needs first satisfied; returns what is left of the room. */
function divideEvenly(unread: readonly number[], shares: number[], room: number, first: number): number {
  const smallFirst = unread.map((_, index) => index).slice(first);
  smallFirst.sort((a, b) => (unread[a] as number) - (unread[b] as number) || a - b);
  let left = room;
  smallFirst.forEach((index, done) => {
    const even = Math.floor(left / (smallFirst.length - done));
    shares[index] = Math.min(unread[index] as number, even);
    left -= shares[index] as number;
  });
  return left;
}
