import { expect, it } from 'vitest';
import { Admission, type Start, type WaitingEntry } from './admission.js';

/** More than one look passes over in one scope. */
const VERY_MANY = 70;

class Entry implements WaitingEntry {
  readonly scope: string;
  readonly isRequest = true;
  readonly cartridges = [];
  readonly #outcome: Start;
  looks = 0;
  failure: string | undefined;

  constructor(scope: string, outcome: Start) {
    this.scope = scope;
    this.#outcome = outcome;
  }

  async start(): Promise<Start> {
    this.looks++;
    return this.#outcome;
  }

  isCancelled(): boolean {
    return false;
  }

  fail(error: { code: string }): void {
    this.failure = error.code;
  }
}

/** Adds entries to a line and has one look at it. */
async function lookAt(entries: readonly Entry[], isIdle = false): Promise<{ looks: number[]; started: boolean }> {
  const line = new Admission();
  for (const entry of entries) line.add(entry);
  const started = await line.admit({ mayStart: () => true, isIdle: () => isIdle });
  return { looks: entries.map(({ looks }) => looks), started };
}

const many = (scope: string, outcome: Start) => Array.from({ length: VERY_MANY }, () => new Entry(scope, outcome));

it('lets one scope in when very many of the others wait for what is on its way', async () => {
  const ready = new Entry('c', 'started');
  expect(await lookAt([...many('a', 'later'), ...many('b', 'later'), ready])).toMatchObject({ started: true });
  expect(ready.looks).toBe(1);
});

it('passes over a bounded number of a scope, and lets none of it in behind them', async () => {
  const { looks, started } = await lookAt([...many('a', 'later'), new Entry('a', 'started')]);
  expect(started).toBe(false);
  expect(looks).toEqual([...Array(64).fill(1), ...Array(VERY_MANY - 64 + 1).fill(0)]);
});

it('lets nobody pass one that needs more room than there is, of whatever scope', async () => {
  expect(
    await lookAt([new Entry('a', 'later'), new Entry('a', 'full'), new Entry('a', 'started'), new Entry('b', 'started')]),
  ).toEqual({
    looks: [1, 1, 0, 0],
    started: false,
  });
});

it('fails one that does not fit into an idle engine', async () => {
  const tooLarge = new Entry('a', 'full');
  expect(await lookAt([tooLarge, new Entry('a', 'later')], true)).toMatchObject({ started: true });
  expect(tooLarge.failure).toBe('CONTEXT_OVERFLOW');
});
