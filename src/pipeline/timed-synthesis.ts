import type { ProgressEvent } from '../core/progress.js';
import { ENOUGH, type SynthesisReport } from '../self-study/synthesize.js';
import { type SynthesizeDatasetOptions, synthesizeDataset } from './synthesize.js';

/**
 * Self-study that ends with the group in which its time is over, so one group is made in any case. The conversations are the first
 * of those that were planned.
 */
export function synthesizeWithin(seconds: number, options: SynthesizeDatasetOptions): Promise<SynthesisReport> {
  const endsAt = performance.now() + seconds * 1000;
  const enough = new AbortController();
  const onProgress = (event: ProgressEvent) => {
    options.onProgress?.(event);
    if (event.kind === 'progress' && event.stage === 'synthesize' && performance.now() >= endsAt) enough.abort(ENOUGH);
  };
  const signals = options.signal ? [options.signal, enough.signal] : [enough.signal];
  return synthesizeDataset({ ...options, onProgress, signal: AbortSignal.any(signals) });
}
