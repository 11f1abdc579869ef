import type { Pack } from '../training/pack.js';
import type { TrainingStep } from '../training/training-step.js';
import { stepsOf, type TrainingPlan } from './plan.js';

/** How many updates are made, how many packs one of them takes, and how often the result is validated. */
export interface LoopPlan {
  steps: number;
  packsPerStep: number;
  validations: number;
}

/** Validations of a run that has time for them. */
const WANTED_VALIDATIONS = 10;

/**
 * The loop that a plan asks for, with packs of so many supervised tokens. A step takes an even number of packs, so that two workers
 * share it; how many workers there are does not count, since another number must not train another cartridge. Long conversations
 * make steps larger than the plan asks for, and then fewer of them.
 */
export function wantedLoop(plan: TrainingPlan, supervisedTokensOfPack: number): LoopPlan {
  const pairs = Math.round(plan.batchTokens / supervisedTokensOfPack / 2);
  const packsPerStep = 2 * Math.max(1, pairs);
  return { steps: stepsOf(plan, packsPerStep * supervisedTokensOfPack), packsPerStep, validations: WANTED_VALIDATIONS };
}

/**
 * Steps below which smaller ones are better: a cartridge needs many updates more than it needs exact ones. In the same time the
 * quickstart without oneDNN answered 53 and 53 % with 196 and 168 steps, 60, 59 and 66 % with twice as many of half the size.
 */
const ENOUGH_STEPS = 400;
/** Of the time that is left; the rest is for the machine being slower later. */
const USABLE_SHARE = 0.9;
/** Of the usable time, what validation may take; once is the least. */
const VALIDATION_SHARE = 0.1;
/** A smaller step must take at most this share of the time of a larger one: else it only leaves workers idle. */
const WORTHWHILE_SHARE = 0.75;

/** What a machine was measured to take, in milliseconds. */
export interface LoopSpeed {
  /** A step of so many packs. */
  stepOf(packsPerStep: number): Promise<number>;
  validation: number;
}

/**
 * The loop that fits into so many milliseconds, validations included: the schedule must know how many steps there will be. Where
 * time is short, steps become smaller before they become few.
 */
export async function affordableLoop(wanted: LoopPlan, millisecondsLeft: () => number, speed: LoopSpeed): Promise<LoopPlan> {
  const milliseconds = await speed.stepOf(wanted.packsPerStep);
  const affordable = affordableSteps(millisecondsLeft(), milliseconds, speed.validation);
  // An even number, as in a whole step.
  const fewerPacks = 2 * Math.max(1, Math.floor((affordable.steps * wanted.packsPerStep) / ENOUGH_STEPS / 2));
  if (fewerPacks < wanted.packsPerStep && affordable.steps < wanted.steps) {
    const smaller = await speed.stepOf(fewerPacks);
    if (smaller <= milliseconds * WORTHWHILE_SHARE) {
      const sameData = Math.round((wanted.steps * wanted.packsPerStep) / fewerPacks);
      return { packsPerStep: fewerPacks, ...atMost(sameData, affordableSteps(millisecondsLeft(), smaller, speed.validation)) };
    }
  }
  return { packsPerStep: wanted.packsPerStep, ...atMost(wanted.steps, affordable) };
}

/** Steps of so many milliseconds, and validations between them and at their end. */
function affordableSteps(millisecondsLeft: number, step: number, validation: number): Pick<LoopPlan, 'steps' | 'validations'> {
  const usable = millisecondsLeft * USABLE_SHARE;
  const affordable = validation > 0 ? Math.floor((usable * VALIDATION_SHARE) / validation) : WANTED_VALIDATIONS;
  const validations = Math.min(WANTED_VALIDATIONS, Math.max(1, affordable));
  return { steps: Math.floor((usable - validations * validation) / step), validations };
}

function atMost(wantedSteps: number, { steps, validations }: Pick<LoopPlan, 'steps' | 'validations'>) {
  return { steps: Math.max(1, Math.min(wantedSteps, steps)), validations };
}

/** What is measured again when it takes less: the first call of a step makes it warm. */
const LONG_MILLISECONDS = 1_000;

/** Milliseconds of a step for these packs, without the update; it leaves no trace in the step. */
export function timePacks(step: TrainingStep, packs: readonly Pack[]): Promise<number> {
  return timeTwice(async () => {
    await step.accumulate(packs);
    await step.restore(await step.state());
  });
}

/** Milliseconds of a validation on these packs. */
export function timeValidation(step: TrainingStep, packs: readonly Pack[]): Promise<number> {
  return timeTwice(() => step.evaluate(packs));
}

async function timeTwice(work: () => Promise<unknown>): Promise<number> {
  const time = async () => {
    const before = performance.now();
    await work();
    return performance.now() - before;
  };
  const first = await time();
  return first > LONG_MILLISECONDS ? first : Math.min(first, await time());
}
