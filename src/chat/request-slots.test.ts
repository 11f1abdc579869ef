import fc from 'fast-check';
import { expect, it } from 'vitest';
import { RequestSlots } from './request-slots.js';

it('serves in order and never more than there are slots', async () => {
  const slots = new RequestSlots(2);
  const served: number[] = [];
  const take = async (id: number) => {
    const release = await slots.take();
    served.push(id);
    return release;
  };
  const [first, , third, fourth] = [1, 2, 3, 4].map(take);
  (await first!)();
  (await third!)();
  await fourth;
  expect(served).toEqual([1, 2, 3, 4]);
});

it('loses no slot, whatever is cancelled when', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.record({ cancel: fc.boolean(), ticks: fc.nat(3) }), { maxLength: 30 }), async (requests) => {
      const slots = new RequestSlots(2);
      const run = async ({ cancel, ticks }: { cancel: boolean; ticks: number }) => {
        const controller = new AbortController();
        const taken = slots.take(controller.signal);
        if (cancel) controller.abort();
        const release = await taken.catch(() => undefined);
        for (let tick = 0; tick < ticks; tick++) await Promise.resolve();
        release?.();
      };
      await Promise.all(requests.map(run));
      await Promise.all([slots.take(), slots.take()]);
    }),
  );
});

it('hands a slot over even if the one that gets it is cancelled at that moment', async () => {
  const slots = new RequestSlots(1);
  const controller = new AbortController();
  const release = await slots.take();
  const second = slots.take(controller.signal);
  const third = slots.take();
  release();
  controller.abort();
  (await second)();
  await third;
});
