import { expect, test } from 'vitest';
import type { ModelConfig } from '../../src/models/model-config.js';
import { stepOperations } from './training-work.js';

const config: ModelConfig = {
  architecture: 'llama',
  traits: { ropePairs: 'neighbours', attentionBias: false, headNorm: false },
  layers: 2,
  embedding: 6,
  heads: 4,
  kvHeads: 2,
  headDimension: 8,
  feedForward: 10,
  vocabularySize: 20,
  contextLength: 64,
  ropeBase: 10_000,
  rmsEpsilon: 1e-5,
  tiedEmbeddings: true,
};

/** Multiply-adds counted one product and one pair of positions at a time, as the step makes them. */
function countOneByOne(prefixTokens: number, slots: number, slotTokens: number, supervisedRows: number): number {
  let count = 0;
  for (let layer = 0; layer < config.layers; layer++) {
    for (let token = 0; token < slots * slotTokens; token++) {
      const projectionDirections = layer === 0 ? 1 : 2;
      for (const outputs of [32, 16, 16]) count += projectionDirections * 6 * outputs;
      count += 2 * (32 * 6 + 6 * 10 + 6 * 10 + 10 * 6);
      const seen = prefixTokens + (token % slotTokens) + 1;
      const attentionProducts = layer === 0 ? 5 : 6;
      for (let head = 0; head < config.heads; head++) count += attentionProducts * seen * 8;
    }
  }
  return count + 2 * supervisedRows * 6 * 20;
}

test('counts the products of a step, none that nobody needs', () => {
  const shape = { slots: 3, slotTokens: 5, supervisedRows: 7, entriesPerRow: 4 };
  expect(stepOperations(config, shape, 9)).toBe(2 * countOneByOne(9, 3, 5, 7));
});
