import { CartridgesError } from '../core/errors.js';
import { formatBytes, parseBytes } from '../core/format-bytes.js';
import type { RunOptions } from '../core/progress.js';
import { weightBytes } from '../models/weight-bytes.js';
import { GraphStep } from '../training/graph-step.js';
import { extendPlan, planMemory, requireMemory } from '../training/memory-plan.js';
import type { PackShape } from '../training/pack.js';
import { ReplicaStep } from '../training/replica/replica-step.js';
import type { LossKind, TrainingStep } from '../training/training-step.js';
import type { InitialRows } from './initial-rows.js';
import type { ModelSession } from './model-session.js';
import type { Settings } from './settings.js';
import type { StepChoice } from './training-step-choice.js';

export interface FittingStepOptions extends RunOptions {
  session: ModelSession;
  settings: Settings;
  choice: StepChoice;
  initialRows: InitialRows;
  /** Shapes of packs, the wanted one first and smaller ones behind it. */
  shapes: readonly [PackShape, ...PackShape[]];
}

export interface FittingStep {
  step: TrainingStep;
  shape: PackShape;
}

/** Of the memory that is free beside libllama's copy of the model; the rest is for JavaScript and other programs. */
const FREE_SHARE = 0.75;

/**
 * Loads the student and makes the training step for the first shape of packs whose plan fits into the memory, beside libllama's
 * copy of the model. The step itself computes activations again before packs become smaller. Throws `OUT_OF_MEMORY` with the last
 * plan when none fits.
 */
export async function createFittingStep(options: FittingStepOptions): Promise<FittingStep> {
  const { session, shapes, onProgress } = options;
  const copyBytes = session.languageModel.byteLength;
  const created = await createStep(options).catch((error) => {
    throw besideCopy(error, copyBytes);
  });
  const report = (kind: 'note' | 'warning', message: string) => onProgress?.({ kind, stage: 'train', message });
  if (created.shape !== shapes[0]) report('warning', describeSmaller(shapes[0], created.shape));
  const beside = { [KEPT]: created.keptBytes, [COPY]: copyBytes };
  report('note', `memory planned ${extendPlan(created.step.plan, beside).description}`);
  return created;
}

const COPY = "libllama's copy of the model";
const KEPT = 'best rows and checkpoint';
/** The best rows of a run, and those of a checkpoint with two moments while it is written. */
const KEPT_COPIES = 4;

/** What has no room says how much the copy takes of it: it is not among what was refused. */
function besideCopy(error: unknown, copyBytes: number): unknown {
  if (!CartridgesError.is(error) || error.code !== 'OUT_OF_MEMORY') return error;
  const { message, hint } = error;
  const details = { cause: error, ...(hint !== undefined && { hint }) };
  return new CartridgesError('OUT_OF_MEMORY', `${message}, beside ${formatBytes(copyBytes)} for ${COPY}`, details);
}

async function createStep(options: FittingStepOptions): Promise<FittingStep & { keptBytes: number }> {
  const { session, settings, choice, shapes } = options;
  const memoryBytes = stepLimit(session, settings.training.memory);
  if (choice.step === 'replica') requireRoomForWeights(session, choice, memoryBytes);
  const student = await session.student(choice.step === 'graph' ? settings.training.weightType : choice.weights, options);
  const rows = await options.initialRows.compute(student, options);
  const keptBytes = KEPT_COPIES * [...rows.keys, ...rows.values].reduce((sum, { byteLength }) => sum + byteLength, 0);
  const { frozenTokens: frozenCount, gradientClip } = settings.training;
  const loss: LossKind = settings.training.loss === 'entry-mean' ? 'entry-mean' : 'token-mean';
  const fitting = await firstThatFits(shapes, (shape: PackShape) => {
    const stepOptions = { shape, ...rows, frozenCount, loss, gradientClip, memoryBytes: memoryBytes - keptBytes };
    return choice.step === 'graph'
      ? new GraphStep(student, stepOptions)
      : ReplicaStep.create(student, { ...stepOptions, ...choice });
  });
  return { ...fitting, keptBytes };
}

/** What the step may take: the setting without libllama's copy, or a share of what is free where the student will lie. */
function stepLimit({ backend, languageModel, studentBytes }: ModelSession, setting: Settings['training']['memory']): number {
  if (setting !== undefined) return Math.max(0, parseBytes(setting)! - languageModel.byteLength);
  const { device } = backend;
  // A student that is loaded is taken, or gives way to another: its memory is there for the step, whose plan counts it.
  if (device.kind === 'cpu') {
    // libllama's weights are mapped from their file: they count as free until they are used.
    return Math.max(0, process.availableMemory() + studentBytes - languageModel.byteLength) * FREE_SHARE;
  }
  // Not every driver tells; a device refuses what it has no room for. The copy is there already.
  return device.memoryFree > 0 ? (device.memoryFree + studentBytes) * FREE_SHARE : Number.POSITIVE_INFINITY;
}

/** Loading weights that do not fit would take minutes, or end the process. */
function requireRoomForWeights(
  { backend, config }: ModelSession,
  { weights }: Extract<StepChoice, { step: 'replica' }>,
  memoryBytes: number,
): void {
  requireMemory(planMemory({ weights: weightBytes(backend.engine, config, weights) }), memoryBytes);
}

async function firstThatFits(
  shapes: FittingStepOptions['shapes'],
  create: (shape: PackShape) => TrainingStep | Promise<TrainingStep>,
): Promise<{ step: TrainingStep; shape: PackShape }> {
  let failure: unknown;
  for (const shape of shapes) {
    try {
      return { step: await create(shape), shape };
    } catch (error) {
      if (!CartridgesError.is(error) || error.code !== 'OUT_OF_MEMORY') throw error;
      failure = error;
    }
  }
  throw failure;
}

function describeSmaller(wanted: PackShape, chosen: PackShape): string {
  return `packs of ${describeShape(chosen)} in place of ${describeShape(wanted)}, which do not fit into the memory`;
}

/** A shape in words. */
export function describeShape({ slots, slotTokens }: PackShape): string {
  return `${slots} × ${slotTokens} tokens`;
}
