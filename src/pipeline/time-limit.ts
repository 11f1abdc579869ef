/** Kept back for writing and the end of the last step. */
const RESERVE_SHARE = 0.05;

/** The bound of a build or a training, which counts from when it was asked for. */
export class TimeLimit {
  readonly #endsAt: number;

  /** @param startedAt  As `performance.now()` gave it. */
  constructor(minutes: number, startedAt: number) {
    this.#endsAt = startedAt + minutes * 60_000 * (1 - RESERVE_SHARE);
  }

  /** Negative when it is over. */
  get secondsLeft(): number {
    return (this.#endsAt - performance.now()) / 1000;
  }
}
