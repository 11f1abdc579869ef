import type { Pack } from '../training/pack.js';
import type { TrainingStep } from '../training/training-step.js';
import type { TrainingPlan } from './plan.js';

/** How many updates are made, and how many packs one of them takes. */
export interface LoopPlan {
  steps: number;
  packsPerStep: number;
}

/**
 * The loop that a plan asks for, with packs of so many supervised tokens. A step takes an even number of packs, so that two workers
 * share it; how many workers there are does not count, since another number must not train another cartridge.
 */
export function wantedLoop({ steps, batchTokens }: TrainingPlan, supervisedTokensOfPack: number): LoopPlan {
  const pairs = Math.round(batchTokens / supervisedTokensOfPack / 2);
  return { steps, packsPerStep: 2 * Math.max(1, pairs) };
}

/** Steps below which smaller ones are better: a cartridge needs many updates more than it needs exact ones. */
const ENOUGH_STEPS = 100;
/** Of the time that is left; the rest is for validation and for the machine being slower later. */
const USABLE_SHARE = 0.85;
/** A smaller step must take at most this share of the time of a larger one: else it only leaves workers idle. */
const WORTHWHILE_SHARE = 0.75;

/**
 * The loop that fits into so many milliseconds: the schedule must know how many steps there will be. Where time is short, steps
 * become smaller before they become few. `measure` gives the milliseconds of a step of so many packs.
 */
export async function affordableLoop(
  wanted: LoopPlan,
  millisecondsLeft: () => number,
  measure: (packsPerStep: number) => Promise<number>,
): Promise<LoopPlan> {
  const milliseconds = await measure(wanted.packsPerStep);
  const stepsIn = (each: number) => Math.floor((millisecondsLeft() * USABLE_SHARE) / each);
  const affordable = stepsIn(milliseconds);
  const fewerPacks = Math.max(1, Math.floor((affordable * wanted.packsPerStep) / ENOUGH_STEPS));
  if (fewerPacks < wanted.packsPerStep && affordable < wanted.steps) {
    const smaller = await measure(fewerPacks);
    if (smaller <= milliseconds * WORTHWHILE_SHARE) {
      const sameData = Math.round((wanted.steps * wanted.packsPerStep) / fewerPacks);
      return { packsPerStep: fewerPacks, steps: atLeastOne(Math.min(sameData, stepsIn(smaller))) };
    }
  }
  return { packsPerStep: wanted.packsPerStep, steps: atLeastOne(Math.min(wanted.steps, stepsIn(milliseconds))) };
}

function atLeastOne(steps: number): number {
  return Math.max(1, steps);
}

/** What is measured again when it takes less: the first call of a step makes it warm. */
const LONG_MILLISECONDS = 1_000;

/** Milliseconds of a step for these packs, without the update; it leaves no trace in the step. */
export async function timePacks(step: TrainingStep, packs: readonly Pack[]): Promise<number> {
  const time = async () => {
    const before = performance.now();
    await step.accumulate(packs);
    await step.restore(await step.state());
    return performance.now() - before;
  };
  const first = await time();
  return first > LONG_MILLISECONDS ? first : Math.min(first, await time());
}
