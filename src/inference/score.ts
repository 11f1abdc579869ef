import { CartridgesError } from '../core/errors.js';
import type { InferenceEngine } from './inference-engine.js';
import { logSumExp } from './log-sum-exp.js';
import type { RequestContext } from './requests.js';

export interface ScoreRequest extends RequestContext {
  /** At least one token: the first of the continuation is predicted from its last. */
  prompt: Int32Array;
  continuation: Int32Array;
}

export interface Score {
  /** Negative log-likelihood of the continuation, in nats. */
  sum: number;
  tokens: number;
}

/** How likely the model finds a continuation behind a prompt. Rejects as `InferenceEngine.read` does. */
export async function scoreContinuation(engine: InferenceEngine, request: ScoreRequest): Promise<Score> {
  const { prompt, continuation, ...context } = request;
  if (prompt.length === 0 || continuation.length === 0) {
    throw new CartridgesError('INVALID_INPUT', 'a score needs a prompt and a continuation of at least one token each');
  }
  const tokens = new Int32Array(prompt.length + continuation.length - 1);
  tokens.set(prompt);
  tokens.set(continuation.subarray(0, -1), prompt.length);
  const firstLogitsRow = prompt.length - 1;
  let sum = 0;
  await engine.read({
    ...context,
    tokens,
    firstLogitsRow,
    onLogits: (logits, row) => {
      const expected = logits[continuation[row - firstLogitsRow] as number] as number;
      sum += logSumExp(logits, largest(logits)) - expected;
    },
  });
  return { sum, tokens: continuation.length };
}

/** Logits behind every token, [tokens, vocabulary] row-major: for comparisons on small inputs. */
export async function logitsOf(engine: InferenceEngine, tokens: Int32Array, context: RequestContext = {}): Promise<Float32Array> {
  const { vocabularySize } = engine.tokenizer;
  const rows = new Float32Array(tokens.length * vocabularySize);
  await engine.read({
    ...context,
    sharedPrefixTokens: 0,
    tokens,
    firstLogitsRow: 0,
    onLogits: (logits, row) => rows.set(logits, row * vocabularySize),
  });
  return rows;
}

function largest(values: Float32Array): number {
  let result = Number.NEGATIVE_INFINITY;
  for (let i = 0; i < values.length; i++) {
    if ((values[i] as number) > result) result = values[i] as number;
  }
  return result;
}
