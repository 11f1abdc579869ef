import { expect, test } from 'vitest';
import { readGguf } from '../models/gguf.js';
import { chooseKeptTurnCells, countParameters } from './kept-turns.js';

test('a large model keeps more finished turns in the cache than a small one', () => {
  const small = chooseKeptTurnCells({ layers: 30, heads: 9 }, 134_515_008);
  const large = chooseKeptTurnCells({ layers: 28, heads: 24 }, 3_212_749_888);
  expect(small).toBe(156);
  expect(large).toBe(1494);
});

test('the parameters of a model are counted from its tensors', () => {
  const model = readGguf('models/pocket/pocket.gguf');
  const ofEmbeddings = model.tensors.get('token_embd.weight')!.shape.reduce((product, extent) => product * extent);
  expect(countParameters(model)).toBeGreaterThan(ofEmbeddings);
  expect(countParameters({ tensors: new Map([['one', { ...model.tensors.get('token_embd.weight')!, shape: [3, 5] }]]) })).toBe(
    15,
  );
});
