import { cpus } from 'node:os';
import { setTimeout } from 'node:timers/promises';

/** Above this part of the processors' time a figure says more about the other programs than about ours. */
export const DISTURBED_SHARE = 0.05;

/** What other programs do to the machine; tests pass one of their own. */
export interface MachineLoad {
  /** Milliseconds that all processors together have been busy since the machine started, whoever made them so. */
  busyMilliseconds(): number;
  /** Resolves when the machine has been left alone for a second, or after a minute in which it has not. */
  waitUntilQuiet(): Promise<void>;
}

const SAMPLE_MILLISECONDS = 1000;
const MAX_SAMPLES = 60;

export const machineLoad: MachineLoad = {
  busyMilliseconds() {
    return cpus().reduce((sum, { times }) => sum + times.user + times.nice + times.sys + times.irq, 0);
  },

  async waitUntilQuiet() {
    for (let sample = 0; sample < MAX_SAMPLES; sample++) {
      const [start, busyBefore] = [performance.now(), this.busyMilliseconds()];
      await setTimeout(SAMPLE_MILLISECONDS);
      if (shareOfProcessors(this.busyMilliseconds() - busyBefore, performance.now() - start) <= DISTURBED_SHARE) return;
    }
  },
};

/** Processor time as a part of what all processors had, from 0 to 1. */
export function shareOfProcessors(cpuMilliseconds: number, wallMilliseconds: number): number {
  return Math.max(0, cpuMilliseconds / (wallMilliseconds * cpus().length));
}
