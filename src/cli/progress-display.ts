import { formatBytes } from '../core/format-bytes.js';
import type { ProgressEvent, Stage } from '../core/progress.js';
import { type Colors, colorsFor } from './colors.js';
import { formatSeconds, formatValue, printableLine } from './format.js';
import type { TextStream } from './terminal.js';

const REDRAW_MS = 100;
const LINE_EVERY_MS = 5000;
const BAR_WIDTH = 24;
const CLEAR_LINE = '\r\u001b[2K';

export interface ProgressDisplayOptions {
  /** Show warnings only. */
  quiet?: boolean;
  /** One line that is rewritten, instead of lines now and then. */
  interactive: boolean;
  /** Milliseconds; tests pass their own clock. */
  now?: () => number;
}

interface StageState {
  /** Where the first progress event found the work: what an earlier run did says nothing about the speed of this one. */
  firstDone: number;
  firstAt: number;
  /** When a line was last shown. */
  shownAt: number | undefined;
}

type ProgressStep = Extract<ProgressEvent, { kind: 'progress' }>;

/** Draws progress events: a bar on a terminal, plain lines a few seconds apart elsewhere. */
export class ProgressDisplay {
  readonly #stream: TextStream;
  readonly #quiet: boolean;
  readonly #interactive: boolean;
  readonly #now: () => number;
  readonly #colors: Colors;
  readonly #stages = new Map<Stage, StageState>();
  #lineDrawn = false;

  constructor(stream: TextStream, { quiet = false, interactive, now = () => performance.now() }: ProgressDisplayOptions) {
    this.#stream = stream;
    this.#quiet = quiet;
    this.#interactive = interactive;
    this.#now = now;
    this.#colors = colorsFor(stream);
  }

  /** A listener for the `onProgress` of any long function. */
  readonly listen = (event: ProgressEvent): void => {
    const { bold, dim, yellow } = this.#colors;
    if (event.kind === 'warning') this.#line(`${bold(event.stage)}: ${yellow('warning:')} ${printableLine(event.message)}`);
    else if (this.#quiet) return;
    else if (event.kind === 'progress') this.#progress(event);
    else {
      const seconds = event.kind === 'end' ? ` ${dim(`(${formatSeconds(event.seconds)})`)}` : '';
      this.#stages.delete(event.stage);
      this.#line(`${bold(event.stage)}: ${printableLine(event.message)}${seconds}`);
    }
  };

  /** Takes an unfinished bar away, so that other text can follow. */
  clear(): void {
    if (this.#lineDrawn) this.#stream.write(CLEAR_LINE);
    this.#lineDrawn = false;
  }

  #progress(event: ProgressStep): void {
    const now = this.#now();
    const state = this.#stages.get(event.stage) ?? { firstDone: event.done, firstAt: now, shownAt: undefined };
    this.#stages.set(event.stage, state);
    const interval = this.#interactive ? REDRAW_MS : LINE_EVERY_MS;
    if (now - (state.shownAt ?? Number.NEGATIVE_INFINITY) < interval) return;
    state.shownAt = now;
    const words = describe(event, secondsLeft(event, state, now));
    if (this.#interactive) this.#redraw(event, words);
    else this.#line(`${this.#colors.bold(event.stage)}: ${words}`);
  }

  #line(text: string): void {
    this.clear();
    this.#stream.write(`${text}\n`);
  }

  #redraw(event: ProgressStep, words: string): void {
    const filled = Math.round(BAR_WIDTH * fraction(event));
    const bar = '█'.repeat(filled) + '░'.repeat(BAR_WIDTH - filled);
    const columns = this.#stream.columns || 80;
    const room = Math.max(0, columns - event.stage.length - BAR_WIDTH - 4);
    this.#stream.write(`${CLEAR_LINE}${this.#colors.bold(event.stage)} ${this.#colors.cyan(bar)} ${words.slice(0, room)}`);
    this.#lineDrawn = true;
  }
}

function describe(event: ProgressStep, left: number | undefined): string {
  const amount = event.stage === 'download' ? formatBytes : formatValue;
  return [
    `${Math.floor(100 * fraction(event))} %`,
    `${amount(event.done)}/${amount(event.total)}`,
    ...Object.entries(event.values ?? {}).map(([name, value]) => `${name} ${formatValue(value)}`),
    ...(event.message === undefined ? [] : [printableLine(event.message)]),
    ...(left === undefined ? [] : [`${formatSeconds(left)} left`]),
  ].join('  ');
}

function fraction({ done, total }: ProgressStep): number {
  return total > 0 ? Math.min(1, done / total) : 0;
}

function secondsLeft(event: ProgressStep, state: StageState, now: number): number | undefined {
  const gained = event.done - state.firstDone;
  if (gained <= 0) return undefined;
  return (((now - state.firstAt) / gained) * (event.total - event.done)) / 1000;
}
