import type { DecodeOutcome, SequenceContext } from './sequence-context.js';
import type { SequenceRun } from './sequence-run.js';
import type { TokenChoice } from './token-choice.js';

/** A decode that is over. */
export interface StreakStep {
  /** Time of the decode alone. */
  milliseconds: number;
  /** In the order of the runs, what was chosen by the rules of each; none for one that chooses by itself. */
  choices: readonly DecodeOutcome['choices'][];
}

/**
 * A batch, and the decodes that follow from it alone while nothing else is to be done. They are asked for before those in front of
 * them are over, so that the engine does not wait while tokens are passed on.
 */
export class Streak {
  readonly #context: SequenceContext;
  /** Of each rule, the run's number in the batch. */
  readonly #ruled: readonly number[];
  readonly #runs: number;
  #next: Promise<readonly DecodeOutcome[]>;
  #underWay = 1;

  /** Begins to decode the rows that are collected. */
  constructor(context: SequenceContext, batch: readonly SequenceRun[]) {
    const rules = batch.map((run) => run.rowRules);
    this.#context = context;
    this.#runs = batch.length;
    this.#ruled = rules.flatMap((own, index) => own.map(() => index));
    this.#next = context.decode(rules.flat()).then((outcome) => [outcome]);
  }

  /** The most decodes of which the outcomes are not known yet. */
  get underWay(): number {
    return this.#underWay;
  }

  /**
   * Waits for the decodes that are under way, with at most `ahead` others behind them; none when the streak is over. Rejects when one
   * fails.
   */
  async next(ahead: number): Promise<StreakStep[]> {
    const current = this.#next;
    if (this.#underWay === 0) return [];
    this.#next = ahead > 0 ? this.#context.decodeChosen(ahead) : Promise.resolve([]);
    this.#underWay = ahead;
    // Whoever waits for it hears of a failure, later.
    this.#next.catch(() => undefined);
    const outcomes = await current;
    return outcomes.map(({ milliseconds, choices }) => ({ milliseconds, choices: this.#byRun(choices) }));
  }

  /** Waits until no decode is under way. */
  async end(): Promise<void> {
    await this.#next.catch(() => undefined);
  }

  #byRun(choices: DecodeOutcome['choices']): StreakStep['choices'] {
    const byRun: (TokenChoice | undefined)[][] = Array.from({ length: this.#runs }, () => []);
    for (const [index, run] of this.#ruled.entries()) byRun[run]?.push(choices[index]);
    return byRun;
  }
}
