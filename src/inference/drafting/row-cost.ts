import type { BatchRows } from '../batch.js';

/**
 * What the row of a drafted token costs, as a part of what a new token costs without drafts. A CPU that is busy with one row
 * needs 0.5 to 0.8 of its time for each further one; a GPU hardly any.
 */
export const ASSUMED_ROW_COST = 0.75;
/** A CPU that computes this many sequences has full work without drafts: they have not been faster then. */
const FULL_SEQUENCES = 5;
/** One slow decode, while another program ran, says no more than this. */
const MOST_ROW_COST = 2;
const PLAIN_RATE = 1 / 8;
const COST_RATE = 1 / 16;
/** How fast a measured cost is forgotten while nothing is drafted: high ones would never be measured again otherwise. */
const FORGETTING_RATE = 1 / 256;

/** Where no clock may decide: a cost of 1 leaves nothing to win. */
export function assumedRowCost(sequences: number): number {
  return sequences < FULL_SEQUENCES ? ASSUMED_ROW_COST : 1;
}

/** Follows what drafted rows cost by the times of decodes, for each number of sequences apart. */
export class MeasuredRowCost {
  /** By the number of sequences: milliseconds of a decode with one row for each. */
  readonly #plainMs = new Map<number, number>();
  readonly #costs = new Map<number, number>();

  at(sequences: number): number {
    return this.#costs.get(sequences) ?? ASSUMED_ROW_COST;
  }

  /** Takes the time of a decode; one that read prompts too says nothing. */
  note({ newTokens, draftedTokens, promptTokens }: BatchRows, milliseconds: number): void {
    if (promptTokens > 0) return;
    const plain = this.#plainMs.get(newTokens);
    if (draftedTokens === 0) {
      this.#plainMs.set(newTokens, plain === undefined ? milliseconds : approach(plain, milliseconds, PLAIN_RATE));
      if (this.#costs.has(newTokens)) this.#move(newTokens, ASSUMED_ROW_COST, FORGETTING_RATE);
    } else if (plain !== undefined) {
      const cost = ((milliseconds / plain - 1) * newTokens) / draftedTokens;
      this.#move(newTokens, Math.min(Math.max(cost, 0), MOST_ROW_COST), COST_RATE);
    }
  }

  #move(sequences: number, cost: number, rate: number): void {
    this.#costs.set(sequences, approach(this.at(sequences), cost, rate));
  }
}

function approach(from: number, to: number, rate: number): number {
  return from + (to - from) * rate;
}
