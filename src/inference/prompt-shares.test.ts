import fc from 'fast-check';
import { expect, it } from 'vitest';
import { shareRoom } from './prompt-shares.js';

it.each([
  ['gives one prompt all', [6000], 512, [512]],
  ['does not let a short prompt wait for a long one', [6000, 40], 512, [472, 40]],
  ['gives the first one half, and the others even parts', [6000, 6000, 6000], 512, [256, 128, 128]],
  ['passes on what is not needed', [6000, 10, 6000], 512, [256, 10, 246]],
  ['lets the first one go on when there is hardly room', [9, 9, 9], 1, [1, 0, 0]],
])('%s', (_, unread, room, shares) => expect(shareRoom(unread, room)).toEqual(shares));

it('never gives more than there is, or than is needed, and leaves nothing that is needed', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: 1, max: 900 }), { maxLength: 40 }),
      fc.integer({ min: 1, max: 600 }),
      (unread, room) => {
        const shares = shareRoom(unread, room);
        const sum = shares.reduce((total, share) => total + share, 0);
        expect(shares.every((share, i) => share >= 0 && share <= unread[i]!)).toBe(true);
        expect(sum).toBe(
          Math.min(
            room,
            unread.reduce((total, count) => total + count, 0),
          ),
        );
      },
    ),
  );
});
