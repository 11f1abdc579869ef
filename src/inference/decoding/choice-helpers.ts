import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import type { TokenChoice } from '../token-choice.js';
import type { TopCandidates } from '../top-logprobs.js';
import { type ChoiceRow, type ChoiceShare, type ChoiceTask, chooseBehind, chooseUnclaimed } from './choice-task.js';
import type { LogitsMemory } from './logits-memory.js';
import { RowClaims } from './row-claims.js';

/** Who has not chosen by then has ended, or its machine was halted. */
const PATIENCE_MS = 5_000;

/**
 * Other threads that choose tokens together with this one. Rows are taken one by one, so a thread that comes late, as its processor was
 * busy, takes fewer or none. Who chooses makes no difference to what is chosen.
 */
export class ChoiceHelpers {
  readonly #claims: RowClaims;
  /** Working memory. */
  readonly #candidates: TopCandidates;
  #ports: readonly MessagePort[];

  constructor(ports: readonly MessagePort[], claims: SharedArrayBuffer, candidates: TopCandidates) {
    this.#ports = ports;
    this.#claims = new RowClaims(claims);
    this.#candidates = candidates;
  }

  /** A token for each row, undefined where its logits are not finite. Blocks until all are chosen. */
  choose(rows: readonly ChoiceRow[], memory: LogitsMemory): (TokenChoice | undefined)[] {
    if (this.#ports.length === 0) return rows.map((row) => chooseBehind(row, memory, this.#candidates));
    const task: ChoiceTask = { ...this.#claims.open(rows.length), rows, vocabularySize: memory.vocabularySize };
    for (const port of this.#ports) port.postMessage(task);
    const shares: ChoiceShare[] = [];
    try {
      chooseUnclaimed(task, this.#claims, memory, this.#candidates, (share) => shares.push(share));
    } finally {
      this.#settle(task);
    }
    shares.push(...this.#receive(task));
    const chosen = new Map(shares.flatMap(({ choices }) => choices.map(({ index, choice }) => [index, choice] as const)));
    return rows.map((row, index) => (chosen.has(index) ? chosen.get(index) : chooseBehind(row, memory, this.#candidates)));
  }

  /** Waits until nobody looks at the logits any more. Rows that are left, as this thread failed, are nobody's. */
  #settle(task: ChoiceTask): void {
    while (this.#claims.claim(task) !== undefined) this.#claims.finish(1);
    if (this.#claims.waitFor(task, PATIENCE_MS)) return;
    for (const port of this.#ports) port.close();
    this.#ports = [];
    process.emitWarning('a thread that helps to choose tokens did not answer; the one that decodes goes on alone');
  }

  #receive({ start }: ChoiceTask): ChoiceShare[] {
    const shares: ChoiceShare[] = [];
    for (const port of this.#ports) {
      for (let received = receiveMessageOnPort(port); received; received = receiveMessageOnPort(port))
        shares.push(received.message);
    }
    return shares.filter((share) => share.start === start);
  }
}
