import type { InferenceEngine } from '../inference/inference-engine.js';
import type { Readiness } from './health.js';

/** Whoever asks all the time does not make the engine try all the time. */
const REVIVAL_PAUSE_MS = 1_000;

/**
 * Whether an engine can answer. Where requests go elsewhere while it cannot, none of them starts it anew; so whoever asks for
 * this has it tried, in the background, and hears of it with the next question.
 */
export function engineReadiness(engine: Pick<InferenceEngine, 'failure' | 'revive'>, now = () => Date.now()): () => Readiness {
  let revivedAt = Number.NEGATIVE_INFINITY;
  return () => {
    const { failure } = engine;
    if (failure === undefined) return { ready: true };
    if (now() - revivedAt >= REVIVAL_PAUSE_MS) {
      revivedAt = now();
      engine.revive();
    }
    // The engine's own words are for the log.
    const lacksMemory = (failure.cause as { code?: string } | undefined)?.code === 'OUT_OF_MEMORY';
    const problem = lacksMemory ? 'there is no memory to start it anew' : 'it cannot be started anew';
    return { ready: false, reason: `the engine failed, and ${problem}` };
  };
}
