import { throwIfAborted } from '../core/errors.js';

/** Packs that are laid out or cut in one turn of the event loop; one takes a quarter of a millisecond. */
export const PACKS_OF_SLICE = 8;

/**
 * The losses of items, in their order, from workers side by side. Item i goes to worker i mod workers, so nothing depends on who is
 * faster. Throws `CANCELLED` between two items.
 */
export async function deal<Worker, Item>(
  workers: readonly Worker[],
  items: readonly Item[],
  run: (worker: Worker, item: Item) => Promise<number>,
  signal: AbortSignal | undefined,
): Promise<Float64Array> {
  const losses = new Float64Array(items.length);
  await settled(
    workers.map(async (worker, first) => {
      for (let index = first; index < items.length; index += workers.length) {
        throwIfAborted(signal);
        losses[index] = await run(worker, items[index]!);
      }
    }),
  );
  return losses;
}

/** All results, or the first failure once nothing runs any more: what still computes must not be freed. */
export async function settled<T>(promises: readonly Promise<T>[]): Promise<T[]> {
  const outcomes = await Promise.allSettled(promises);
  return outcomes.map((outcome) => {
    if (outcome.status === 'rejected') throw outcome.reason;
    return outcome.value;
  });
}
