import { describe, expect, it } from 'vitest';
import { type CartridgeNames, chooseCartridges } from './cartridge-choice.js';

const field = (id: string, change: object = {}) => ({ id, source: 'local' as const, force_redownload: false, ...change });
const names = (change: Partial<CartridgeNames>): CartridgeNames => ({
  model: 'base',
  field: [],
  blocks: [],
  order: 'given',
  blockParam: undefined,
  ...change,
});
const idsOf = (change: Partial<CartridgeNames>) => chooseCartridges(names(change), 'base').references.map(({ id }) => id);
const refusal = { status: 400, message: expect.stringContaining('different cartridges') };

describe('chooseCartridges', () => {
  it('takes the same cartridges from two places', () => {
    expect(idsOf({ field: [field('a'), field('b')], blocks: [field('a'), field('b')] })).toEqual(['a', 'b']);
    expect(idsOf({ model: 'base:a', field: [field('a', { force_redownload: true })] })).toEqual(['a']);
  });

  it('refuses two places that name them in another order, unless the order is of no account', () => {
    const places = { field: [field('a'), field('b')], blocks: [field('b'), field('a')] };
    expect(() => chooseCartridges(names(places), 'base')).toThrow(expect.objectContaining(refusal));
    expect(idsOf({ ...places, order: 'sorted' })).toEqual(['a', 'b']);
  });

  it.each([{ force_redownload: true }, { source: 'huggingface' as const }])(
    'refuses two places that agree on the id and not on %o',
    (change) => {
      const places = { field: [field('a', change)], blocks: [field('a')] };
      expect(() => chooseCartridges(names(places), 'base')).toThrow(expect.objectContaining(refusal));
    },
  );
});
