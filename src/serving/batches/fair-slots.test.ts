import { setMaxListeners } from 'node:events';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FairSlots } from './fair-slots.js';

const NEVER = new AbortController().signal;
setMaxListeners(0, NEVER);
const settle = () => new Promise((resolve) => setImmediate(resolve));

describe('FairSlots', () => {
  it('lets scopes take turns, and within a scope the first come first', async () => {
    const slots = new FairSlots(1);
    const leave = await slots.take('a', NEVER);
    const order: string[] = [];
    const waiting = ['a1', 'a2', 'a3', 'b1', 'c1', 'b2'].map(async (name) => {
      const leaveAgain = await slots.take(name[0]!, NEVER);
      order.push(name);
      leaveAgain();
    });
    leave();
    await Promise.all(waiting);
    expect(order).toEqual(['a1', 'b1', 'c1', 'a2', 'b2', 'a3']);
  });

  it('gives out no more slots than there are, and loses none to those who leave', async () => {
    const action = fc.record({
      kind: fc.constantFrom('take', 'leave', 'abort', 'serveThenAbort'),
      scope: fc.constantFrom('a', 'b', 'c'),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(action, { maxLength: 60 }), async (actions) => {
        const slots = new FairSlots(2);
        const held: (() => void)[] = [];
        const waiting = new Set<AbortController>();
        for (const { kind, scope } of actions) {
          if (kind === 'take') {
            const controller = new AbortController();
            waiting.add(controller);
            slots
              .take(scope, controller.signal)
              .then(
                (leave) => held.push(leave),
                () => {},
              )
              .finally(() => waiting.delete(controller));
          }
          if (kind === 'leave' || kind === 'serveThenAbort') held.pop()?.();
          if (kind === 'abort' || kind === 'serveThenAbort') for (const one of [...waiting].slice(0, 2)) one.abort();
          if (kind !== 'serveThenAbort') await settle();
          expect(held.length).toBeLessThanOrEqual(2);
        }
        for (const one of waiting) one.abort();
        await settle();
        for (const leave of held) leave();
        await Promise.all([slots.take('x', NEVER), slots.take('y', NEVER)]);
      }),
    );
  });
});
