import { expect, test } from 'vitest';
import { affordableLoop, type LoopPlan, wantedLoop } from './loop-plan.js';

const plan = (batchTokens: number, steps?: number) => ({ steps, batchTokens, seenTokens: 300_000, learningRate: undefined });

test.each([
  [1024, 150, 6, 334],
  [1024, 128, 8, 293],
  [160, 150, 2, 1000],
  // Two packs of long conversations hold more than an update shall see: there are fewer of them.
  [160, 900, 2, 167],
  [65_536, 128, 512, 5],
])(
  'updates of %i supervised tokens in packs of %i take %i packs, and are %i',
  (batchTokens, tokensOfPack, packsPerStep, steps) => {
    expect(wantedLoop(plan(batchTokens), tokensOfPack)).toEqual({ steps, packsPerStep, validations: 10 });
    expect(wantedLoop(plan(batchTokens, 7), tokensOfPack).steps).toBe(7);
  },
);

/** The loop for a machine that computes `together` packs at a time, in a second, and validates in so many. */
function affordable(wanted: Omit<LoopPlan, 'validations'>, seconds: number, together: number, validation = 0): Promise<LoopPlan> {
  const stepOf = async (packs: number) => Math.ceil(packs / together) * 1000;
  return affordableLoop({ ...wanted, validations: 10 }, () => seconds * 1000, { stepOf, validation: validation * 1000 });
}

test('time for all steps changes nothing', async () => {
  const wanted = { steps: 50, packsPerStep: 6 };
  expect(await affordable(wanted, 60, 6)).toEqual({ ...wanted, validations: 10 });
});

test('steps become fewer where there are enough of them', async () => {
  expect(await affordable({ steps: 1000, packsPerStep: 4 }, 500, 4)).toMatchObject({ steps: 450, packsPerStep: 4 });
});

test('steps become smaller before they become few', async () => {
  expect(await affordable({ steps: 1000, packsPerStep: 8 }, 1800, 2)).toMatchObject({ steps: 405, packsPerStep: 8 });
  expect(await affordable({ steps: 1000, packsPerStep: 8 }, 1200, 2)).toMatchObject({ steps: 540, packsPerStep: 4 });
  expect(await affordable({ steps: 1000, packsPerStep: 8 }, 400, 2)).toMatchObject({ steps: 360, packsPerStep: 2 });
});

test('steps do not become so small that workers idle', async () => {
  expect(await affordable({ steps: 1000, packsPerStep: 8 }, 40, 16)).toMatchObject({ steps: 36, packsPerStep: 8 });
});

test('there is always a step', async () => {
  expect(await affordable({ steps: 1000, packsPerStep: 2 }, 0, 2)).toMatchObject({ steps: 1, packsPerStep: 2 });
});

test.each([
  { validation: 1, validations: 10, steps: 350 },
  { validation: 9, validations: 4, steps: 324 },
  // Once at the end, whatever it takes.
  { validation: 60, validations: 1, steps: 300 },
])(
  'a validation of $validation s leaves $steps steps, and there are $validations',
  async ({ validation, validations, steps }) => {
    expect(await affordable({ steps: 1000, packsPerStep: 2 }, 400, 2, validation)).toEqual({
      steps,
      packsPerStep: 2,
      validations,
    });
  },
);
