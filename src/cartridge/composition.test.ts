import { describe, expect, test } from 'vitest';
import { goldenCartridge, randomCartridge } from '../../test/support/cartridges.js';
import { readGolden } from '../../test/support/golden.js';
import { composeCartridges } from './composition.js';

const STAMP = { createdBy: 'a test', createdAt: '2025-01-01T00:00:00.000Z' };

test('rows follow each other as they are', () => {
  const golden = readGolden('tiny-llama');
  const [rows, moreRows] = golden.compose.rows;
  const [first, second] = [goldenCartridge(golden, 'cartridge', rows), goldenCartridge(golden, 'compose.second', moreRows)];
  const { tokenCount, keys, values, receipt } = composeCartridges([first, second], STAMP);
  expect(tokenCount).toBe(rows + moreRows);
  expect(keys[1]).toEqual(Float32Array.of(...first.keys[1]!, ...second.keys[1]!));
  expect(values[0]).toEqual(Float32Array.of(...first.values[0]!, ...second.values[0]!));
  expect(receipt).toMatchObject({
    ...STAMP,
    initializer: 'composition',
    parents: [
      { tokenCount: rows, generations: 0, receipt: first.receipt },
      { tokenCount: moreRows, generations: 0, receipt: second.receipt },
    ],
  });
});

test('one cartridge keeps its rows, in arrays of its own', () => {
  const cartridge = randomCartridge(3);
  const composed = composeCartridges([cartridge], STAMP);
  expect(composed.keys).toEqual(cartridge.keys);
  expect(composed.keys[0]!.buffer).not.toBe(cartridge.keys[0]!.buffer);
});

test.each([
  [[0, 3], 0],
  [[1, 3], 1],
  [[3, 1], 4],
  [[3, 3, 2], 8],
])('of three rows each, %j frozen, the first %d stay so', (frozen, expected) => {
  expect(
    composeCartridges(
      frozen.map((count) => randomCartridge(3, count)),
      STAMP,
    ).frozenCount,
  ).toBe(expected);
});

describe('refuses', () => {
  test('nothing', () => {
    expect(() => composeCartridges([])).toThrow(expect.objectContaining({ code: 'INVALID_INPUT' }));
  });

  test('another model or framing', () => {
    const cartridge = randomCartridge(3);
    const otherModel = { ...cartridge, model: { ...cartridge.model, weightsHash: 'c'.repeat(64) } };
    const otherFraming = { ...cartridge, framing: { name: 'llama-3', hash: 'c'.repeat(64) } };
    const mismatch = (message: string) =>
      expect.objectContaining({ code: 'CARTRIDGE_MISMATCH', message: expect.stringContaining(message) });
    expect(() => composeCartridges([cartridge, cartridge, otherModel])).toThrow(
      mismatch('cartridges 1 and 3 cannot be composed: their weightsHash'),
    );
    expect(() => composeCartridges([cartridge, otherFraming])).toThrow(mismatch('their framing'));
  });
});
