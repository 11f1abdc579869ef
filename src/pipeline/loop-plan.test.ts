import { expect, test } from 'vitest';
import { affordableLoop, type LoopPlan, wantedLoop } from './loop-plan.js';

const plan = (batchTokens: number) => ({ steps: 300, batchTokens, learningRate: 0.002 });

test.each([
  [1024, 150, 6],
  [1024, 128, 8],
  [160, 150, 2],
  [160, 900, 2],
  [65_536, 128, 512],
])('a step of %i supervised tokens in packs of %i takes %i packs', (batchTokens, tokensOfPack, packsPerStep) => {
  expect(wantedLoop(plan(batchTokens), tokensOfPack)).toEqual({ steps: 300, packsPerStep });
});

/** The loop for a machine that computes `together` packs at a time, in a second. */
function affordable(wanted: LoopPlan, seconds: number, together: number): Promise<LoopPlan> {
  const measure = async (packs: number) => Math.ceil(packs / together) * 1000;
  return affordableLoop(wanted, () => seconds * 1000, measure);
}

test('time for all steps changes nothing', async () => {
  const wanted = { steps: 50, packsPerStep: 6 };
  expect(await affordable(wanted, 60, 6)).toEqual(wanted);
});

test('steps become fewer where there are enough of them', async () => {
  expect(await affordable({ steps: 1000, packsPerStep: 2 }, 400, 2)).toEqual({ steps: 340, packsPerStep: 2 });
});

test('steps become smaller before they become few', async () => {
  expect(await affordable({ steps: 1000, packsPerStep: 8 }, 400, 1)).toEqual({ steps: 113, packsPerStep: 3 });
});

test('steps do not become so small that workers idle', async () => {
  expect(await affordable({ steps: 1000, packsPerStep: 8 }, 40, 16)).toEqual({ steps: 34, packsPerStep: 8 });
});

test('there is always a step', async () => {
  expect(await affordable({ steps: 1000, packsPerStep: 2 }, 0, 2)).toEqual({ steps: 1, packsPerStep: 2 });
});
