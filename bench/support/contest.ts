import { Contestant, type ContestantOptions, type Run } from './contestant.js';
import { DISTURBED_SHARE, type MachineLoad, machineLoad, shareOfProcessors } from './machine-load.js';
import { progress } from './report.js';

/** What was measured of a contestant. */
export interface Measured {
  name: string;
  facts: Record<string, unknown>;
  /** The runs that count: the least disturbed ones. */
  runs: DisturbedRun[];
  peakBytes: number;
}

/** A run with the part of all processors' time that other programs took meanwhile, from 0 to 1. */
export interface DisturbedRun extends Run {
  othersShare: number;
}

/** A rival that could not be measured, and why. */
export interface LeftOut {
  name: string;
  failure: string;
}

export type Standing = Measured | LeftOut;

export function isMeasured(standing: Standing): standing is Measured {
  return 'runs' in standing;
}

export interface ContestOptions {
  warmups: number;
  /** Runs that count: at least five for a figure to publish. */
  repetitions: number;
  load?: MachineLoad;
}

/** Turns on a busy machine, as a multiple of the runs asked for. */
const PATIENCE = 2;

/**
 * Measures ours beside rivals: all are started and warmed up, then they take turns, one run each, so that a disturbance of the
 * machine hits all alike. A run that other programs disturbed is made again, up to a limit; the least disturbed ones count, and
 * how fast they were has no say in it. A rival that fails is left out with its reason. Throws when ours fails.
 */
export async function contest(
  ours: ContestantOptions,
  rivals: readonly ContestantOptions[],
  { warmups, repetitions, load = machineLoad }: ContestOptions,
): Promise<{ ours: Measured; rivals: Standing[] }> {
  const entrants = [ours, ...rivals].map((options) => new Entrant(options));
  const inTheRace = () => entrants.filter(({ failure }) => failure === undefined);
  try {
    for (const entrant of entrants) {
      await entrant.enter(warmups);
      if (entrants[0]!.failure !== undefined) break;
    }
    for (let turn = 0; turn < PATIENCE * repetitions && entrants[0]!.failure === undefined; turn++) {
      for (const entrant of inTheRace().filter(({ quietRuns }) => quietRuns < repetitions)) await entrant.run(load);
    }
    for (const entrant of inTheRace()) await entrant.end();
    const [first, ...others] = entrants.map((entrant) => entrant.standing(repetitions));
    if (!first || !isMeasured(first)) throw new Error(`${ours.name} failed: ${first?.failure}`);
    return { ours: first, rivals: others };
  } finally {
    for (const entrant of entrants) entrant.kill();
  }
}

/** A contestant on its way through a contest: what it does may fail once, and then it is out. */
class Entrant {
  failure: string | undefined;
  readonly #options: ContestantOptions;
  readonly #runs: DisturbedRun[] = [];
  #contestant: Contestant | undefined;
  #peakBytes = 0;

  constructor(options: ContestantOptions) {
    this.#options = options;
  }

  get quietRuns(): number {
    return this.#runs.filter(({ othersShare }) => othersShare <= DISTURBED_SHARE).length;
  }

  async enter(warmups: number): Promise<void> {
    progress(`  ${this.#options.name}: starts and warms up`);
    await this.#attempt(async () => {
      this.#contestant = await Contestant.start(this.#options);
      for (let warmup = 0; warmup < warmups; warmup++) await this.#contestant.run();
    });
  }

  async run(load: MachineLoad): Promise<void> {
    await this.#attempt(async () => {
      await load.waitUntilQuiet();
      const [start, busyBefore] = [performance.now(), load.busyMilliseconds()];
      const run = await this.#contestant!.run();
      const othersMilliseconds = load.busyMilliseconds() - busyBefore - run.cpuMilliseconds;
      const othersShare = shareOfProcessors(othersMilliseconds, performance.now() - start);
      this.#runs.push({ ...run, othersShare });
      const others = `other programs took ${(othersShare * 100).toFixed(0)} %`;
      progress(`  ${this.#options.name}: ${run.milliseconds.toFixed(0)} ms, ${others}`);
    });
  }

  async end(): Promise<void> {
    await this.#attempt(async () => {
      this.#peakBytes = (await this.#contestant!.end()).peakBytes;
    });
  }

  kill(): void {
    this.#contestant?.kill();
  }

  standing(repetitions: number): Standing {
    const { name } = this.#options;
    if (this.failure !== undefined) return { name, failure: this.failure };
    const runs = this.#runs.toSorted((a, b) => a.othersShare - b.othersShare).slice(0, repetitions);
    return { name, facts: this.#contestant!.facts, runs, peakBytes: this.#peakBytes };
  }

  async #attempt(action: () => Promise<void>): Promise<void> {
    try {
      await action();
    } catch (error) {
      this.failure = (error as Error).message;
      progress(`  ${this.#options.name}: left out, ${this.failure}`);
    }
  }
}
