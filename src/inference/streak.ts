import type { DecodeOutcome, SequenceContext } from './sequence-context.js';
import type { SequenceRun } from './sequence-run.js';
import type { TokenChoice } from './token-choice.js';

/**
 * A batch, and the decodes that follow from it alone while nothing else is to be done. They are asked for before those in front of
 * them are over, so that the engine does not wait while tokens are passed on.
 */
export class Streak {
  readonly #context: SequenceContext;
  /** Of the rows with a rule, the run's number in the batch. */
  readonly #ruled: readonly number[];
  readonly #runs: number;
  #next: Promise<readonly DecodeOutcome[]>;
  #underWay = 1;

  /** Begins to decode the rows that are collected. */
  constructor(context: SequenceContext, batch: readonly SequenceRun[]) {
    const rules = batch.map((run) => run.rowRule);
    this.#context = context;
    this.#runs = batch.length;
    this.#ruled = rules.flatMap((rule, index) => (rule ? index : []));
    this.#next = context.decode(rules.flatMap((rule) => rule ?? [])).then((outcome) => [outcome]);
  }

  /** The most decodes of which the outcomes are not known yet. */
  get underWay(): number {
    return this.#underWay;
  }

  /**
   * Waits for the decodes that are under way, with at most `ahead` others behind them; none when the streak is over. Their choices are
   * in the order of the runs, undefined too where a run chooses by itself. Rejects when one fails.
   */
  async next(ahead: number): Promise<DecodeOutcome[]> {
    const current = this.#next;
    if (this.#underWay === 0) return [];
    this.#next = ahead > 0 ? this.#context.decodeChosen(ahead) : Promise.resolve([]);
    this.#underWay = ahead;
    // Whoever waits for it hears of a failure, later.
    this.#next.catch(() => undefined);
    const outcomes = await current;
    return outcomes.map((outcome) => ({ ...outcome, choices: this.#byRun(outcome) }));
  }

  /** Waits until no decode is under way. */
  async end(): Promise<void> {
    await this.#next.catch(() => undefined);
  }

  #byRun({ choices }: DecodeOutcome): (TokenChoice | undefined)[] {
    const byRun = new Array<TokenChoice | undefined>(this.#runs);
    for (const [index, run] of this.#ruled.entries()) byRun[run] = choices[index];
    return byRun;
  }
}
