import { expect, test } from 'vitest';
import { CartridgesError } from '../core/errors.js';
import { createFittingLanes, type PlannedLanes } from './fitting-lanes.js';
import type { GraphLane } from './graph-lane.js';

const LAYERS = 10;
/** Each layer that is computed again saves a twentieth. */
const bytesOf = (recomputedLayers: number) => 2000 - 100 * recomputedLayers;

/** A device with room for so many bytes; it knows what is held on it. */
class Device {
  held = 0;
  readonly tried: number[] = [];
  readonly #room: number;

  constructor(room: number) {
    this.#room = room;
  }

  create = (recomputedLayers: number): PlannedLanes => {
    const bytes = bytesOf(recomputedLayers);
    this.tried.push(recomputedLayers);
    if (this.held + bytes > this.#room) throw new CartridgesError('OUT_OF_MEMORY', 'the device is full');
    this.held += bytes;
    const lane = { dispose: () => (this.held -= bytes) } as unknown as GraphLane;
    return { lanes: [lane], plan: { bytes, description: String(recomputedLayers), parts: {} } };
  };
}

const choose = (device: Device, memoryBytes: number) => createFittingLanes(LAYERS, memoryBytes, device.create).plan.description;

test.each([
  [2000, '0'],
  [1750, '3'],
  [1700, '3'],
  [1101, '9'],
])('with %i bytes computes %s layers again, also where the device has room for nothing beside', (memoryBytes, expected) => {
  const device = new Device(2000);
  expect(choose(device, memoryBytes)).toBe(expected);
  expect(device.held).toBe(bytesOf(Number(expected)));
});

test('keeps nothing when too little fits', () => {
  const device = new Device(2000);
  expect(() => choose(device, 1099)).toThrow(expect.objectContaining({ code: 'OUT_OF_MEMORY' }));
  expect(device.held).toBe(0);
});

test('a device that refuses to keep all layers gets as few as it takes', () => {
  const device = new Device(1150);
  expect(choose(device, 2000)).toBe('9');
  expect(device.tried).toEqual([0, 9]);
});
