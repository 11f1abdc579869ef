import { expect, test } from 'vitest';
import { loadEngine } from '../native/engine.js';
import { koffi } from '../native/koffi.js';
import { ggmlTypeLayout } from './ggml-types.js';

test('agrees with the engine on every type up to the first that it does not know', () => {
  const { ggml } = loadEngine();
  const numbers = Array.from({ length: 43 }, (_, type) => type);
  const engine = numbers.map((type) => {
    const traits = koffi.decode(ggml.ggml_get_type_traits(type), 'ggml_type_traits');
    const [blockLength, blockBytes] = [Number(traits.blck_size), Number(traits.type_size)];
    return blockLength === 0 ? undefined : { name: traits.type_name.toUpperCase(), blockLength, blockBytes };
  });
  expect(numbers.map(ggmlTypeLayout)).toEqual(engine);
});

test('knows no numbers beyond', () => {
  expect([4, 31, 43, 2 ** 31, -1, Number.NaN].map(ggmlTypeLayout)).toEqual(Array(6).fill(undefined));
});
