import type { Sampling } from '../chat/chat-client.js';
import type { RandomState } from '../core/random.js';
import type { TopLogprobs } from '../core/sparse-logprobs.js';
import { type TopCandidates, toTopLogprobs } from './top-logprobs.js';

/** All that the next tokens of a request depend on, beside their logits: what another thread needs to choose them. */
export interface ChoiceRule {
  /** Without changes to logits. */
  sampling: Sampling;
  /** What the next draw begins with. */
  random: RandomState;
  /** As many log-probs as the request wants beside each token; none, not even the token's own, when undefined. */
  topLogprobs: number | undefined;
}

/** The next token of a request, and what the request wants to know beside it. */
export interface TokenChoice {
  token: number;
  /** Natural logarithm, before temperature and filters. */
  logprob?: number;
  topLogprobs?: TopLogprobs;
}

/** Draws a token from logits; `candidates` hold at least the best one. */
export interface Chooser {
  /** As many candidates it looks at in any case. */
  readonly candidateCount: number;
  choose(logits: Float32Array, candidates: TopCandidates): number;
}

/** Chooses a token, and takes the log-probs from the logits as they are; undefined when these are not finite numbers. */
export function chooseToken(
  logits: Float32Array,
  chooser: Chooser,
  topLogprobs: number | undefined,
  candidates: TopCandidates,
): TokenChoice | undefined {
  candidates.select(logits, Math.max(chooser.candidateCount, topLogprobs ?? 1));
  const best = candidates.count > 0 ? (candidates.logits[0] as number) : Number.NaN;
  if (!Number.isFinite(best)) return undefined;
  const sum = topLogprobs === undefined ? Number.NaN : candidates.logSumExp();
  const top = topLogprobs ? toTopLogprobs(candidates, topLogprobs, sum) : undefined;
  const token = chooser.choose(logits, candidates);
  if (topLogprobs === undefined) return { token };
  const logprob = (logits[token] as number) - sum;
  return Number.isNaN(logprob) ? undefined : { token, logprob, topLogprobs: top };
}
