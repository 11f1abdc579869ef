/** A faster candidate must win by this much over a more exact one. */
const WORTHWHILE_GAIN = 1.15;
/** Work of one measured product: long enough for the clock, short enough for a start. */
const MEASURED_OPERATIONS = 4e8;

/** Tokens of a product with a matrix of this size that is measured to choose how it is computed. */
export function measuredTokens(inputs: number, outputs: number): number {
  return Math.min(512, Math.max(16, Math.round(MEASURED_OPERATIONS / (2 * inputs * outputs))));
}

/** Of candidates in order, the most exact first, the first one that no other beats by 15 %; undefined of none. */
export function mostExactOf<Candidate extends { gigaflops: number }>(candidates: readonly Candidate[]): Candidate | undefined {
  const fastest = Math.max(...candidates.map(({ gigaflops }) => gigaflops));
  return candidates.find(({ gigaflops }) => gigaflops * WORTHWHILE_GAIN >= fastest);
}
