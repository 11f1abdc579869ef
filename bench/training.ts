/**
 * A full training step (gradient and Adam update) in front of SmolLM2-135M beside PyTorch: tokens/s, memory, and the share of
 * what the machine's matrix products reach. `npm run bench -- training [--json] [--threads N] [--repetitions N] [--only p128]`
 */

import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { cacheFolder } from '../src/core/environment.js';
import { findOneDnn } from '../src/native/onednn/library.js';
import { BENCH_OPTIONS } from './support/bench-options.js';
import { compiledCommand } from './support/compiled-child.js';
import { contest, isMeasured, type Measured, type Standing } from './support/contest.js';
import type { ContestantOptions } from './support/contestant.js';
import { describeMachine } from './support/machine.js';
import { findRealModel, REAL_MODEL_ABSENT } from './support/models.js';
import { pythonWith } from './support/python.js';
import { type BenchCase, comparison, printReport, progress } from './support/report.js';
import { median } from './support/statistics.js';

/** A run takes a second or more on a fast machine: after the others' turns a step starts with a cold cache. */
const SHAPES = [
  { name: 'p128', prefixTokens: 128, slots: 4, slotTokens: 128, stepsPerRun: 4 },
  { name: 'p512', prefixTokens: 512, slots: 4, slotTokens: 512, stepsPerRun: 1 },
] as const;
type Shape = (typeof SHAPES)[number];

const PYTORCH = ['torch==2.13.0', 'numpy'];
const VARIANTS = [
  { name: 'PyTorch f32 eager', flags: ['--type', 'f32'] },
  { name: 'PyTorch f32 compiled', flags: ['--type', 'f32', '--compile'] },
  { name: 'PyTorch bf16 eager', flags: ['--type', 'bf16'] },
  { name: 'PyTorch bf16 compiled', flags: ['--type', 'bf16', '--compile'] },
];
/** A variant that takes longer to compile does not take part. */
const START_SECONDS = 180;
const RUN_SECONDS = 300;
const MEBIBYTE = 2 ** 20;

/** What the children say of themselves. */
interface OurFacts {
  weightType: string;
  lanes: number;
  operations: number;
  planBytes: number;
  baseBytes: number;
}

const { values: options } = parseArgs({
  options: { ...BENCH_OPTIONS, threads: { type: 'string', default: String(availableParallelism()) } },
});
const machine = describeMachine();
const modelPath = findRealModel();
if (modelPath === undefined) {
  printReport({ name: 'training', machine, cases: [], skipped: REAL_MODEL_ABSENT }, options.json);
} else {
  const cases: BenchCase[] = [];
  const notes: string[] = [`medians of ${options.repetitions} runs after a warm-up, ${options.threads} threads each, in turns`];
  const { python, reason } = await prepareRivals();
  for (const shape of SHAPES.filter(({ name }) => options.only === undefined || name === options.only)) {
    progress(titleOf(shape));
    const [first, ...others] = await ourEntries(shape, modelPath);
    const { ours, rivals } = await contest(first, [...others, ...(python === undefined ? [] : rivalEntries(shape, python))], {
      warmups: 1,
      repetitions: Number(options.repetitions),
    });
    cases.push(...casesOf(shape, ours, python === undefined ? [...rivals, { name: 'PyTorch', failure: reason }] : rivals));
    notes.push(noteOf(shape, ours, rivals), ...profileNotes(shape, [ours, ...rivals.filter(isMeasured)]));
  }
  printReport({ name: 'training', machine, cases, notes }, options.json);
}

async function prepareRivals(): Promise<{ python: string | undefined; reason: string }> {
  try {
    return { python: await pythonWith('torch-2.13.0', PYTORCH), reason: '' };
  } catch (error) {
    return { python: undefined, reason: `it could not be installed: ${(error as Error).message}` };
  }
}

/** The step that a run would take here comes first, and is compared with the others. */
async function ourEntries(
  { prefixTokens, slots, slotTokens, stepsPerRun }: Shape,
  model: string,
): Promise<[ContestantOptions, ...ContestantOptions[]]> {
  const sizes = [prefixTokens, slots, slotTokens, stepsPerRun, options.threads].map(String);
  const compile = (child: string) => compiledCommand(new URL(`./children/${child}`, import.meta.url));
  const [graphStep, replicaStep] = [await compile('graph-step.ts'), await compile('replica-step.ts')];
  const entry = (name: string, command: [string, string], ...more: string[]): ContestantOptions => ({
    name,
    command: [...command, model, ...sizes, ...more],
    startSeconds: START_SECONDS,
    runSeconds: RUN_SECONDS,
  });
  const graph = entry('graph step', graphStep);
  const byGgml = entry('replica step with ggml', replicaStep, 'ggml');
  if (findOneDnn().state !== 'found') return [graph, byGgml];
  return [entry('replica step with oneDNN', replicaStep, 'onednn'), byGgml, graph];
}

function rivalEntries({ prefixTokens, slots, slotTokens, stepsPerRun }: Shape, python: string): ContestantOptions[] {
  const script = new URL('./peers/torch_step.py', import.meta.url).pathname;
  const sizes = { prefix: prefixTokens, slots, 'slot-tokens': slotTokens, steps: stepsPerRun, threads: options.threads };
  const sizeFlags = Object.entries(sizes).flatMap(([name, value]) => [`--${name}`, String(value)]);
  return VARIANTS.map(({ name, flags }) => ({
    name,
    command: [python, script, '--serve', ...sizeFlags, ...flags],
    // Kept compilations make the next run start sooner.
    environment: { TORCHINDUCTOR_CACHE_DIR: `${cacheFolder()}/bench/torch-compiled` },
    startSeconds: START_SECONDS,
    runSeconds: RUN_SECONDS,
  }));
}

function casesOf(shape: Shape, ours: Measured, others: readonly Standing[]): BenchCase[] {
  const rivals = others.filter(isMeasured);
  const fastest = rivals.reduce<Measured | undefined>(
    (best, rival) => (best && stepMilliseconds(shape, best) < stepMilliseconds(shape, rival) ? best : rival),
    undefined,
  );
  return [
    ...others.map((rival) => speedCase(shape, ours, rival)),
    ...memoryCases(shape, ours, fastest),
    ...productCases(shape, ours, rivals),
    ...outsideCases(shape, [ours, ...rivals]),
  ];
}

function speedCase(shape: Shape, ours: Measured, rival: Standing): BenchCase {
  const tokensPerSecond = (standing: Measured) => (shape.slots * shape.slotTokens * 1000) / stepMilliseconds(shape, standing);
  return comparison({
    case: `full step, ${titleOf(shape)}`,
    unit: 'tokens/s',
    ours: tokensPerSecond(ours),
    rival: isMeasured(rival) ? tokensPerSecond(rival) : null,
    rivalName: isMeasured(rival) ? rival.name : `${rival.name}: left out, ${rival.failure}`,
  });
}

function memoryCases(shape: Shape, ours: Measured, fastest: Measured | undefined): BenchCase[] {
  const { planBytes, baseBytes } = ours.facts as unknown as OurFacts;
  const beside = comparison(
    {
      case: `peak resident memory, ${titleOf(shape)}`,
      unit: 'MiB',
      ours: ours.peakBytes / MEBIBYTE,
      rival: fastest ? fastest.peakBytes / MEBIBYTE : null,
      rivalName: fastest?.name ?? 'no rival ran',
    },
    'lower',
  );
  const planned = comparison(
    {
      case: `peak beyond the bare process, ${titleOf(shape)}`,
      unit: 'MiB',
      ours: (ours.peakBytes - baseBytes) / MEBIBYTE,
      rival: planBytes / MEBIBYTE,
      rivalName: "the step's plan",
    },
    'lower',
  );
  return [beside, planned];
}

/** The step's own rate against what products reach: first in our engine, then in the fastest program at hand. */
function productCases(shape: Shape, ours: Measured, rivals: readonly Measured[]): BenchCase[] {
  const { operations } = ours.facts as unknown as OurFacts;
  const productSpeed = (name: string, { runs }: Measured) => ({
    name: `fastest product in ${name}`,
    gigaflops: Math.max(...runs.map((run) => run['productGigaflops']!)),
  });
  const engine = productSpeed(ours.name, ours);
  const all = [engine, ...rivals.map((rival) => productSpeed(rival.name, rival))];
  const peak = all.reduce((best, speed) => (speed.gigaflops > best.gigaflops ? speed : best));
  return [
    { title: "share of the engine's products", speed: engine },
    { title: "share of the machine's products", speed: peak },
  ].map(({ title, speed }) =>
    comparison({
      case: `${title}, ${titleOf(shape)}`,
      unit: 'GFLOPS',
      ours: operations / stepMilliseconds(shape, ours) / 1e6,
      rival: speed.gigaflops,
      rivalName: speed.name,
    }),
  );
}

/** Only our children tell their own time from that of native code. */
function outsideCases(shape: Shape, standings: readonly Measured[]): BenchCase[] {
  const telling = standings.filter(({ runs }) => runs.every((run) => run['outsideShare'] !== undefined));
  return telling.map(({ name, runs }) =>
    comparison({
      case: `time of ${name} outside native code, ${titleOf(shape)}`,
      unit: '% of a step',
      ours: median(runs.map((run) => run['outsideShare']!)) * 100,
      rival: null,
      rivalName: 'no rival',
    }),
  );
}

/** Where the time of a replica step goes: of the time of all its workers. */
function profileNotes(shape: Shape, standings: readonly Measured[]): string[] {
  const profiled = standings.filter(({ runs }) => runs.every((run) => run['linearShare'] !== undefined));
  return profiled.map(({ name, runs }) => {
    const percent = (figure: string) => `${(median(runs.map((run) => run[figure]!)) * 100).toFixed(1)} %`;
    const kinds = ['linear', 'attention', 'rest'].map((kind) => `${kind} ${percent(`${kind}Share`)}`);
    const others = `outside native code ${percent('outsideShare')}, waiting ${percent('waitingShare')}`;
    return `${titleOf(shape)}, ${name}: ${kinds.join(', ')}, ${others}`;
  });
}

function stepMilliseconds({ stepsPerRun }: Shape, { runs }: Measured): number {
  return median(runs.map((run) => run.milliseconds)) / stepsPerRun;
}

function titleOf({ prefixTokens, slots, slotTokens }: Shape): string {
  return `p=${prefixTokens}, ${slots}×${slotTokens} tokens`;
}

function noteOf(shape: Shape, ours: Measured, rivals: readonly Standing[]): string {
  const { weightType, lanes } = ours.facts as unknown as OurFacts;
  const shares = [ours, ...rivals.filter(isMeasured)].map(({ runs }) => median(runs.map((run) => run.othersShare)));
  const others = (Math.max(...shares) * 100).toFixed(0);
  return `${titleOf(shape)}: our weights in ${weightType}, ${lanes} lanes; other programs took up to ${others} % of the processors`;
}
