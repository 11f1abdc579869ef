import { expect, test } from 'vitest';
import type { ProductsSpeed } from '../tensor/products/product-trial.js';
import { chooseProducts } from './training-step-choice.js';

function speed(provider: 'ggml' | 'oneDNN', weightType: ProductsSpeed['weightType'], gigaflops: number): ProductsSpeed {
  const operandType = provider === 'oneDNN' && weightType === 'bf16' ? 'bf16' : 'f32';
  const products =
    provider === 'ggml' ? ({ provider, operandType } as const) : ({ provider, operandType, path: 'dnnl' } as const);
  return { products, weightType, gigaflops, implementations: [] };
}

const choose = (measured: ProductsSpeed[], settings: Partial<Parameters<typeof chooseProducts>[1]> = {}) =>
  chooseProducts({ measured }, { products: 'auto', weightType: 'auto', ...settings });

test('takes the most exact of what is about as fast as the fastest', () => {
  const avx2 = [speed('oneDNN', 'f32', 88), speed('ggml', 'f32', 30), speed('ggml', 'f16', 40), speed('ggml', 'bf16', 33)];
  expect(choose(avx2)).toBe(avx2[0]);
  const avx512 = [
    speed('oneDNN', 'f32', 245),
    speed('ggml', 'f32', 40),
    speed('oneDNN', 'bf16', 500),
    speed('ggml', 'bf16', 150),
  ];
  expect(choose(avx512)).toBe(avx512[2]);
  const close = [speed('ggml', 'f32', 90), speed('ggml', 'f16', 100)];
  expect(choose(close)).toBe(close[0]);
});

test('settings leave only what they name', () => {
  const measured = [speed('oneDNN', 'f32', 88), speed('ggml', 'f32', 30), speed('ggml', 'bf16', 60)];
  expect(choose(measured, { products: 'ggml' })).toBe(measured[2]);
  expect(choose(measured, { products: 'onednn' })).toBe(measured[0]);
  expect(choose(measured, { products: 'ggml', weightType: 'f32' })).toBe(measured[1]);
  expect(choose(measured, { products: 'onednn', weightType: 'bf16' })).toBeUndefined();
});
