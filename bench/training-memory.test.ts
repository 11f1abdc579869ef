import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../src/core/package.js';
import { findOneDnn } from '../src/native/onednn/library.js';
import { compiledCommand } from './support/compiled-child.js';
import { Contestant } from './support/contestant.js';

/** By how much the peak may exceed the plan. */
const ALLOWED = 1.1;
/** ggml plans results of a graph in one piece, of which it does not touch all. */
const LEAST = 0.8;
/** Beside the plan: JavaScript's heap, tables of the GGUF, code of libraries. It does not grow with the step. */
const PROCESS_BYTES = 32 << 20;
/** Large enough that what a process takes is less than a tenth of the plan. */
const SIZES = ['512', '8', '512', '1', '2'];
const HAS_ONEDNN = findOneDnn().state === 'found';
const ONEDNN_NOTE = HAS_ONEDNN ? '' : ' (skipped: CARTRIDGES_ONEDNN names no library that can be used)';

test('the peak of a replica step with ggml keeps to the plan', () => expectPlanned('replica', 'ggml'));
test.skipIf(!HAS_ONEDNN)(`the peak of a replica step with oneDNN keeps to the plan${ONEDNN_NOTE}`, () =>
  expectPlanned('replica', 'onednn'),
);
test('the peak of a graph step keeps to the plan', () => expectPlanned('graph', ''));

async function expectPlanned(step: string, products: string): Promise<void> {
  const command = await compiledCommand(new URL(`./children/${step}-step.ts`, import.meta.url));
  const model = join(packageRoot, 'models/pocket/pocket.gguf');
  const limits = { startSeconds: 60, runSeconds: 60 };
  const contestant = await Contestant.start({ name: step, command: [...command, model, ...SIZES, products], ...limits });
  await contestant.run();
  const { peakBytes } = await contestant.end();
  const { planBytes, baseBytes } = contestant.facts as { planBytes: number; baseBytes: number };
  const measured = [peakBytes - baseBytes, planBytes].map((bytes) => (bytes / 2 ** 20).toFixed(0));
  console.info(
    `${step} step, ${products || 'ggml'}: peak of ${measured[0]} MiB beyond the bare process, ${measured[1]} MiB planned`,
  );
  expect(planBytes).toBeGreaterThan(10 * PROCESS_BYTES);
  expect(peakBytes - baseBytes).toBeLessThan(planBytes * ALLOWED + PROCESS_BYTES);
  expect(peakBytes - baseBytes).toBeGreaterThan(planBytes * LEAST);
}
