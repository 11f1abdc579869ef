import { setImmediate } from 'node:timers';
import { expect, test } from 'vitest';
import { copyInSlices, inSlices, SLICE_VALUES } from './slices.js';

const arrays = [5, 2 * SLICE_VALUES + 6, 9, SLICE_VALUES].map((length, index) =>
  Float32Array.from({ length }, (_, place) => index + place),
);

const bytesOf = ({ buffer }: Float32Array) => Buffer.from(buffer);

test('every value is in one slice, in order, and slices begin at whole units', async () => {
  const unit = 3;
  const visited: number[] = arrays.map(() => 0);
  await inSlices(
    arrays,
    (index, first, end) => {
      expect(first).toBe(visited[index]);
      expect(first % unit).toBe(0);
      expect(end - first).toBeLessThanOrEqual(SLICE_VALUES);
      expect(visited.slice(index + 1)).toEqual(arrays.slice(index + 1).map(() => 0));
      visited[index] = end;
    },
    unit,
  );
  expect(visited).toEqual(arrays.map(({ length }) => length));
});

test('the event loop has a turn after so many values, and none is spent on fewer', async () => {
  let values = 0;
  let most = 0;
  const nextTurn = () => {
    values = 0;
    turn = setImmediate(nextTurn);
  };
  let turn = setImmediate(nextTurn);
  await inSlices(arrays, (_index, first, end) => {
    values += end - first;
    most = Math.max(most, values);
  });
  clearImmediate(turn);
  expect(most).toBeLessThan(2 * SLICE_VALUES);

  let isLater = false;
  turn = setImmediate(() => (isLater = true));
  await inSlices([{ length: SLICE_VALUES - 1 }], () => {});
  expect(isLater).toBe(false);
});

test('copies have the values and share no memory', async () => {
  const copies = await copyInSlices(arrays);
  expect(copies.map((copy, index) => bytesOf(copy).equals(bytesOf(arrays[index]!)))).toEqual(arrays.map(() => true));
  copies[1]!.fill(-1);
  expect(arrays[1]![0]).toBe(1);
});
