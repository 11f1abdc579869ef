import type { DecodeOutcome, SequenceContext } from './sequence-context.js';
import type { SequenceRun } from './sequence-run.js';
import type { TokenChoice } from './token-choice.js';

/**
 * A batch, and the decodes that follow from it alone while nothing else is to be done. Each is asked for before the one in front of it
 * is over, so that the engine does not wait while tokens are passed on.
 */
export class Streak {
  readonly #context: SequenceContext;
  /** Of the rows with a rule, the run's number in the batch. */
  readonly #ruled: readonly number[];
  readonly #runs: number;
  #next: Promise<DecodeOutcome | undefined> | undefined;

  /** Begins to decode the rows that are collected. */
  constructor(context: SequenceContext, batch: readonly SequenceRun[]) {
    const rules = batch.map((run) => run.rowRule);
    this.#context = context;
    this.#runs = batch.length;
    this.#ruled = rules.flatMap((rule, index) => (rule ? index : []));
    this.#next = context.decode(rules.flatMap((rule) => rule ?? []));
  }

  /**
   * Waits for the next decode, with another one behind it where it `goesOn`; undefined when there is none. Its choices are in the
   * order of the runs, undefined too where a run chooses by itself. Rejects when it fails.
   */
  async next(goesOn: boolean): Promise<DecodeOutcome | undefined> {
    const current = this.#next;
    if (!current) return undefined;
    this.#next = goesOn ? this.#context.decodeChosen() : undefined;
    // Whoever waits for it hears of a failure, later.
    this.#next?.catch(() => undefined);
    const outcome = await current;
    return outcome && { ...outcome, choices: this.#byRun(outcome) };
  }

  /** Waits until no decode is under way. */
  async end(): Promise<void> {
    await this.#next?.catch(() => undefined);
  }

  #byRun({ choices }: DecodeOutcome): (TokenChoice | undefined)[] {
    const byRun = new Array<TokenChoice | undefined>(this.#runs);
    for (const [index, run] of this.#ruled.entries()) byRun[run] = choices[index];
    return byRun;
  }
}
