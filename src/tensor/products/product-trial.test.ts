import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../core/package.js';
import { loadEngine } from '../../native/engine.js';
import { ProductTrial } from './product-trial.js';

/** Where `.ci/run` puts the libraries of both APIs. */
const BOTH = ['libdnnl.so.3', 'libdnnl.so.2'].map((name) => join(packageRoot, '.cache', 'onednn', name));
const hasBoth = BOTH.every((path) => existsSync(path));

test.skipIf(!hasBoth)(`two releases of oneDNN in one process${hasBoth ? '' : ' (skipped: .ci/run fetches them)'}`, () => {
  for (const path of BOTH) {
    const products = { provider: 'oneDNN', operandType: 'f32', path } as const;
    const trial = new ProductTrial(loadEngine(), { products, weightType: 'f32' }, 65, 97);
    trial.measure();
    expect(trial.speed.gigaflops).toBeGreaterThan(0);
    trial.dispose();
  }
});

test('a trial that fails leaves no memory behind', () => {
  const products = { provider: 'oneDNN', operandType: 'f32', path: '/nowhere/libdnnl.so.3' } as const;
  const fail = () => {
    expect(() => new ProductTrial(loadEngine(), { products, weightType: 'f32' }, 2048, 2048)).toThrow('shared library');
  };
  // The engine stays loaded.
  fail();
  const before = process.memoryUsage.rss();
  for (let trial = 0; trial < 20; trial++) fail();
  // Each takes 18 MiB.
  expect(process.memoryUsage.rss() - before).toBeLessThan(100 << 20);
});
