import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../src/core/package.js';
import { compiledCommand } from './support/compiled-child.js';
import { Contestant } from './support/contestant.js';

/** By how much the peak may exceed the plan. */
const ALLOWED = 1.1;
/** Beside the plan: JavaScript's heap, tables of the GGUF, code of libraries. It does not grow with the step. */
const PROCESS_BYTES = 32 << 20;
const SIZES = ['512', '4', '512', '2'];

test.each([
  ['replica', 'ggml'],
  ['graph', ''],
])('the peak of a %s step keeps to the plan', async (step, products) => {
  const command = await compiledCommand(new URL(`./children/${step}-step.ts`, import.meta.url));
  const model = join(packageRoot, 'models/pocket/pocket.gguf');
  const limits = { startSeconds: 60, runSeconds: 60 };
  const contestant = await Contestant.start({ name: step, command: [...command, model, ...SIZES, products], ...limits });
  await contestant.run();
  const { peakBytes } = await contestant.end();
  const { planBytes, baseBytes } = contestant.facts as { planBytes: number; baseBytes: number };
  const measured = [peakBytes - baseBytes, planBytes].map((bytes) => (bytes / 2 ** 20).toFixed(0));
  console.info(`${step} step: peak of ${measured[0]} MiB beyond the bare process, ${measured[1]} MiB planned`);
  expect(planBytes).toBeGreaterThan(2 * PROCESS_BYTES);
  expect(peakBytes - baseBytes).toBeLessThan(planBytes * ALLOWED + PROCESS_BYTES);
  expect(peakBytes - baseBytes).toBeGreaterThan(planBytes * 0.75);
});
