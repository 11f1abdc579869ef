import fc from 'fast-check';
import { expect, test } from 'vitest';
import { AnswerRoom, type Release } from './answer-room.js';

const never = new AbortController().signal;
const asked = (count: number) => ({ count, param: 'n' });

/** Takes room patiently and tells when it has come. */
function patiently(room: AnswerRoom, count: number, signal = never) {
  const waiting: { release?: Release; error?: { code: string }; done: Promise<void> } = { done: Promise.resolve() };
  waiting.done = room.whenFree('ana', asked(count), signal).then(
    (release) => {
      waiting.release = release;
    },
    (error) => {
      waiting.error = error;
    },
  );
  return waiting;
}

test('a scope has room for so many answers, other scopes have theirs', () => {
  const room = new AnswerRoom((scope) => (scope === 'ana' ? 4 : 1));
  const release = room.take('ana', asked(3))!;
  expect(room.take('ana', asked(2))).toBeUndefined();
  expect(room.take('ana', asked(1))).toBeDefined();
  expect(room.take('bob', asked(1))).toBeDefined();
  release();
  expect(room.taken('ana')).toBe(1);
  expect(room.take('ana', asked(3))).toBeDefined();
});

test('more than a scope may ever have is refused with the limit, whether it would wait or not', async () => {
  const room = new AnswerRoom(() => 4);
  const refusal = { status: 400, param: 'n', message: expect.stringMatching(/5 answers.* 4 at a time/) };
  expect(() => room.take('ana', asked(5))).toThrow(expect.objectContaining(refusal));
  await expect(room.whenFree('ana', asked(5), never)).rejects.toMatchObject(refusal);
});

test('those who wait are served in their order, and a large one is not passed by small ones', async () => {
  const room = new AnswerRoom(() => 4);
  const first = room.take('ana', asked(2))!;
  const second = room.take('ana', asked(1))!;
  const large = patiently(room, 4);
  const small = patiently(room, 1);
  first();
  await Promise.resolve();
  expect([large.release, small.release]).toEqual([undefined, undefined]);
  second();
  await large.done;
  expect([large.release, small.release]).toEqual([expect.any(Function), undefined]);
  large.release!();
  await small.done;
  expect(room.taken('ana')).toBe(1);
});

test('one who is gone takes nothing, and lets those behind it pass', async () => {
  const room = new AnswerRoom(() => 4);
  const release = room.take('ana', asked(3))!;
  const client = new AbortController();
  const gone = patiently(room, 4, client.signal);
  const next = patiently(room, 1);
  client.abort(new Error('left'));
  await Promise.all([gone.done, next.done]);
  expect(gone.error).toMatchObject({ code: 'CANCELLED', cause: { message: 'left' } });
  expect(room.taken('ana')).toBe(4);
  release();
  expect(room.taken('ana')).toBe(1);
  expect(await patiently(room, 1, AbortSignal.abort()).done).toBeUndefined();
  expect(room.taken('ana')).toBe(1);
});

test('a limit that was lowered keeps nobody waiting for ever', async () => {
  let most = 4;
  const room = new AnswerRoom(() => most);
  const release = room.take('ana', asked(1))!;
  const waiting = patiently(room, 4);
  most = 2;
  release();
  await waiting.done;
  expect(waiting.release).toBeDefined();
});

test('whatever is asked for, given back and given up, no more is under way than may be, and nobody waits beside free room', async () => {
  const step = fc.record({ action: fc.constantFrom('take', 'wait', 'release', 'abort'), pick: fc.nat(9) });
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 1, max: 6 }), fc.array(step, { maxLength: 60 }), async (most, steps) => {
      const room = new AnswerRoom(() => most);
      const held: { count: number; release: Release }[] = [];
      let waiting: { count: number; client: AbortController; place: ReturnType<typeof patiently> }[] = [];
      for (const { action, pick } of steps) {
        const count = 1 + (pick % most);
        if (action === 'take') {
          const release = room.take('ana', asked(count));
          if (release) held.push({ count, release });
        } else if (action === 'wait') {
          const client = new AbortController();
          waiting.push({ count, client, place: patiently(room, count, client.signal) });
        } else if (action === 'release') held.splice(pick % Math.max(1, held.length), 1)[0]?.release();
        else waiting[pick % Math.max(1, waiting.length)]?.client.abort();
        await new Promise(setImmediate);
        for (const { count: got, place } of waiting) if (place.release) held.push({ count: got, release: place.release });
        waiting = waiting.filter(({ place }) => !place.release && !place.error);
        const taken = held.reduce((sum, each) => sum + each.count, 0);
        expect(room.taken('ana')).toBe(taken);
        expect(taken).toBeLessThanOrEqual(most);
        if (waiting[0]) expect(taken + waiting[0].count).toBeGreaterThan(most);
      }
      for (const { client } of waiting) client.abort();
    }),
  );
});
