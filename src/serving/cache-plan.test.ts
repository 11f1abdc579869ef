import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CartridgesError } from '../core/errors.js';
import { type CacheDemand, describePlan, planCache } from './cache-plan.js';

const demand: CacheDemand = {
  bytesPerToken: 1000,
  modelTokens: 4096,
  freeBytes: 1e9,
  hostFreeBytes: 8e9,
  isCacheOnHost: false,
  cartridges: [],
  maxRequests: 8,
  requestTokens: 1024,
};
const cartridge = (tokenCount: number, id = 'notes') => ({ id, tokenCount });

test('without a size there is room for as many usual requests as may run, and for the cartridges', () => {
  const plan = planCache({ ...demand, cartridges: [cartridge(300), cartridge(200)] });
  expect(plan).toEqual({
    contextTokens: 8704,
    bytes: 8_704_000,
    cartridgeTokens: 500,
    keepsAllCartridges: true,
    cartridgesAtOnce: 2,
    users: 8,
    storedTurnBytes: 1e9,
  });
  expect(describePlan(plan)).toContain('8704 cells (8.3 MiB); 500 of them for named cartridges; room for 8 usual requests');
  expect(describePlan(plan)).toContain('up to 953.7 MiB for finished turns');
});

test('memory bounds the cells and so the users', () => {
  expect(planCache({ ...demand, freeBytes: 6e6 })).toMatchObject({ contextTokens: 2816, users: 2 });
});

test('cartridges that do not fit together take turns', () => {
  const plan = planCache({ ...demand, contextTokens: 4096, cartridges: [cartridge(2000), cartridge(2000, 'b')] });
  expect(plan).toMatchObject({ keepsAllCartridges: false, cartridgeTokens: 2000, users: 2 });
  expect(describePlan(plan)).toContain('take turns in them, 1 at a time');
});

test.each<[string, Partial<CacheDemand>, string, string]>([
  ['a cartridge that fills the model', { cartridges: [cartridge(4090)] }, 'CONTEXT_OVERFLOW', 'notes has 4090 rows'],
  ['too few cells', { contextTokens: 1024, cartridges: [cartridge(512)] }, 'INVALID_OPTION', 'they need 1536'],
  ['more cells than memory', { contextTokens: 1 << 20 }, 'OUT_OF_MEMORY', 'are free'],
  ['more finished turns than memory', { storedTurnBytes: 9e9 }, 'OUT_OF_MEMORY', '8.4 GiB, 7.5 GiB are free'],
  [
    'finished turns in the memory of the cache',
    { storedTurnBytes: 7.995e9, isCacheOnHost: true },
    'OUT_OF_MEMORY',
    'beside the cache',
  ],
  ['no memory at all', { freeBytes: 0 }, 'OUT_OF_MEMORY', 'are free'],
])('%s is refused', (_what, change, code, message) => {
  const error = (() => {
    try {
      return planCache({ ...demand, ...change });
    } catch (thrown) {
      return thrown as CartridgesError;
    }
  })();
  expect(error).toMatchObject({ code, message: expect.stringContaining(message), hint: expect.any(String) });
});

test('a plan is kept or refused, whatever is asked: it fits into memory and holds what it promises', () => {
  const demands = fc.record({
    bytesPerToken: fc.integer({ min: 1, max: 1 << 20 }),
    modelTokens: fc.integer({ min: 128, max: 1 << 17 }),
    freeBytes: fc.integer({ min: 0, max: 1e11 }),
    hostFreeBytes: fc.integer({ min: 0, max: 1e11 }),
    isCacheOnHost: fc.boolean(),
    cartridges: fc.array(
      fc.integer({ min: 1, max: 1 << 13 }).map((tokens) => cartridge(tokens)),
      { maxLength: 5 },
    ),
    maxRequests: fc.integer({ min: 1, max: 256 }),
    requestTokens: fc.integer({ min: 1, max: 1 << 13 }),
  });
  fc.assert(
    fc.property(demands, fc.option(fc.integer({ min: 1, max: 1 << 18 }), { nil: undefined }), (asked, contextTokens) => {
      try {
        const plan = planCache({ ...asked, ...(contextTokens !== undefined && { contextTokens }) });
        const largest = Math.max(0, ...asked.cartridges.map(({ tokenCount }) => tokenCount));
        expect(plan.users).toBeGreaterThanOrEqual(1);
        expect(plan.bytes).toBeLessThanOrEqual(0.9 * asked.freeBytes);
        expect(plan.storedTurnBytes + (asked.isCacheOnHost ? plan.bytes : 0)).toBeLessThanOrEqual(
          Math.max(asked.hostFreeBytes, asked.isCacheOnHost ? plan.bytes : 0),
        );
        expect(plan.contextTokens).toBeGreaterThan(largest);
        expect(plan.cartridgeTokens).toBeGreaterThanOrEqual(largest);
      } catch (thrown) {
        if (!CartridgesError.is(thrown)) throw thrown;
        expect(thrown.hint).toBeDefined();
      }
    }),
  );
});
