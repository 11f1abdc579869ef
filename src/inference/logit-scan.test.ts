import { readFileSync } from 'node:fs';
import fc from 'fast-check';
import { expect, it } from 'vitest';
import wabt from 'wabt';
import { LOGIT_BLOCK, LogitScan } from './logit-scan.js';

const scan = new LogitScan();

it('is assembled from its text', async () => {
  const { parseWat } = await wabt();
  const text = readFileSync(new URL('./logit-scan.wat', import.meta.url), 'utf8');
  const code = Buffer.from(parseWat('logit-scan.wat', text, { simd: true }).toBinary({}).buffer).toString('base64');
  const lines = code.match(/.{1,120}/g)!.map((line) => `  '${line}',\n`);
  const says = '/** Assembled from logit-scan.wat: `npm test -- src/inference/logit-scan.test.ts -u` makes it anew. */';
  await expect(`${says}\nexport const LOGIT_SCAN_CODE = [\n${lines.join('')}].join('');\n`).toMatchFileSnapshot(
    'logit-scan-code.ts',
  );
});

it('finds the largest logit of each block, whatever its length, and passes over NaN', () => {
  const value = fc.oneof(
    fc.float({ noNaN: true }),
    fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
  );
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 300 }), (values) => {
      const logits = Float32Array.from(values);
      scan.load(logits);
      const expected = Array.from({ length: Math.ceil(values.length / LOGIT_BLOCK) }, (_, block) => {
        const ofBlock = logits.subarray(block * LOGIT_BLOCK, (block + 1) * LOGIT_BLOCK);
        return Math.max(Number.NEGATIVE_INFINITY, ...ofBlock.filter((logit) => !Number.isNaN(logit)));
      });
      // 0 and −0 are equally large.
      expect([...scan.blockMaxima()].map((largest) => largest + 0)).toEqual(expected.map((largest) => largest + 0));
    }),
  );
});

it('sums up exponentials to the resolution of f32, as far apart as they may be', () => {
  const logit = fc.oneof(fc.float({ min: -30, max: 30, noNaN: true }), fc.float({ min: -1e6, max: 30, noNaN: true }));
  fc.assert(
    fc.property(fc.array(logit, { minLength: 1, maxLength: 3000 }), (values) => {
      const logits = Float32Array.from(values);
      const largest = logits.reduce((best, each) => Math.max(best, each));
      const exact = largest + Math.log(logits.reduce((sum, each) => sum + Math.exp(each - largest), 0));
      scan.load(logits);
      expect(Math.abs(scan.logSumExp(largest) - exact)).toBeLessThan(2e-6);
    }),
  );
});

it('is exact where one logit is all there is, and shows one that is no number', () => {
  scan.load(Float32Array.of(-1000, 7, -1000));
  expect(scan.logSumExp(7)).toBe(7);
  scan.load(Float32Array.of(1, Number.NaN, 7));
  expect(scan.logSumExp(7)).toBeNaN();
});
