import type { TextStream } from './terminal.js';

/** Ctrl-C in a terminal reaches npm and the command, and npm passes it on: signals this close are one. */
const SAME_KEYSTROKE_MS = 500;
const SIGNALS = ['SIGINT', 'SIGTERM'] as const;

/** The part of `process` that is needed here. */
export interface SignalSource {
  on(signal: NodeJS.Signals, listener: () => void): unknown;
  off(signal: NodeJS.Signals, listener: () => void): unknown;
  exit(status: number): never;
}

export interface Interrupt {
  /** Aborted by the first Ctrl-C. */
  signal: AbortSignal;
  dispose(): void;
}

/**
 * Makes the first Ctrl-C stop the work cleanly and the second one end the process at once with status 130.
 *
 * @param resumeHint  What the user can do afterwards, one sentence without a full stop.
 */
export function listenForInterrupt(source: SignalSource, stream: TextStream, resumeHint: string): Interrupt {
  const controller = new AbortController();
  let firstAt = 0;
  const stop = () => {
    const now = performance.now();
    if (controller.signal.aborted) {
      if (now - firstAt >= SAME_KEYSTROKE_MS) source.exit(130);
      return;
    }
    firstAt = now;
    stream.write(`\nstopping; ${resumeHint}. Ctrl-C again stops at once.\n`);
    controller.abort();
  };
  for (const name of SIGNALS) source.on(name, stop);
  return {
    signal: controller.signal,
    dispose: () => {
      for (const name of SIGNALS) source.off(name, stop);
    },
  };
}
