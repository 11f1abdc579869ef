import type { Random } from '../../src/core/random.js';

/** Numbers that counts, sizes and offsets are broken with. */
const TELLING_NUMBERS = [0, 1, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff];

/** A copy with one to three places changed, each in one of the regions (start, end) of the bytes. */
export function damaged(original: Uint8Array, regions: readonly [number, number][], random: Random): Buffer {
  const bytes = Buffer.from(original);
  const places = 1 + random.integer(3);
  for (let place = 0; place < places; place++) {
    const [start, end] = random.pick(regions);
    const at = start + random.integer(end - start - 4);
    if (random.integer(4) === 0) bytes.writeUInt32LE(random.pick(TELLING_NUMBERS), at);
    else bytes[at] = random.pick([0, 1, 255, bytes[at]! ^ (1 << random.integer(8)), random.integer(256)]);
  }
  return bytes;
}
