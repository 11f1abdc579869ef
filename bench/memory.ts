/**
 * How large a cartridge and a pack fit into 16 GB beside a model of 1.5 billion weights: by the plan of the replica step, from the
 * shapes of Qwen2.5-1.5B alone. `npm run bench -- memory [--json] [--threads N]`
 */

import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { formatBytes } from '../src/core/format-bytes.js';
import type { ModelConfig } from '../src/models/model-config.js';
import { architectureTraits } from '../src/models/registry.js';
import { weightBytes } from '../src/models/weight-bytes.js';
import { loadEngine } from '../src/native/engine.js';
import { GgmlType } from '../src/native/ggml.js';
import { planReplica, type ReplicaPlan } from '../src/training/replica/replica-plan.js';
import { LOGIT_CHUNK_BYTES } from '../src/training/step-options.js';
import { describeMachine } from './support/machine.js';
import { type BenchCase, printReport } from './support/report.js';

const MEMORY_BYTES = 16e9;
const CONVERSATION_TOKENS = 512;
const PREFIX_STEP = 256;
const SHOWN_PREFIXES = [128, 512, 2048, 8192];

const QWEN_1_5B: ModelConfig = {
  architecture: 'qwen2',
  traits: architectureTraits('qwen2', 'this benchmark'),
  layers: 28,
  embedding: 1536,
  heads: 12,
  kvHeads: 2,
  headDimension: 128,
  feedForward: 8960,
  vocabularySize: 151_936,
  contextLength: 32_768,
  ropeBase: 1e6,
  rmsEpsilon: 1e-6,
  tiedEmbeddings: true,
};

const { values: options } = parseArgs({
  options: { json: { type: 'boolean', default: false }, threads: { type: 'string', default: String(availableParallelism()) } },
});
const workers = Number(options.threads);
const engine = loadEngine();
// oneDNN reads one copy of a matrix in both directions.
const weights = weightBytes(engine, QWEN_1_5B, { forward: GgmlType.BF16, transposed: undefined });
// libllama holds the file besides, here one in Q8_0.
const copyBytes = weightBytes(engine, QWEN_1_5B, { forward: GgmlType.Q8_0, transposed: undefined });
const stepBytes = MEMORY_BYTES - copyBytes;

const shown = SHOWN_PREFIXES.flatMap((prefixTokens) =>
  [0, QWEN_1_5B.layers].map((recomputedLayers) =>
    planned(
      `largest pack at p=${prefixTokens}, activations ${recomputedLayers > 0 ? 'recomputed' : 'kept'}`,
      'tokens',
      largestPack(prefixTokens, recomputedLayers),
    ),
  ),
);
const largest = largestProduct();
printReport(
  {
    name: 'memory',
    machine: describeMachine(),
    cases: [...shown, planned('largest p × tokens', 'rows × tokens', largest.prefixTokens * largest.tokens)],
    notes: [
      `planned for Qwen2.5-1.5B in bf16, ${workers} workers with oneDNN, conversations of ${CONVERSATION_TOKENS} tokens, in ${formatBytes(MEMORY_BYTES)}, of which libllama's copy of a file in Q8_0 takes ${formatBytes(copyBytes)}`,
      `p=${largest.prefixTokens} with ${largest.tokens} tokens: ${plan(largest.prefixTokens, largest.tokens, QWEN_1_5B.layers).description}`,
    ],
  },
  options.json,
);

function planned(name: string, unit: string, ours: number): BenchCase {
  return { case: name, unit, ours, rival: null, rivalName: 'no rival: a plan', ratio: null };
}

function plan(prefixTokens: number, tokens: number, recomputedLayers: number): ReplicaPlan {
  const slots = tokens / CONVERSATION_TOKENS;
  const shape = { slots, slotTokens: CONVERSATION_TOKENS, supervisedRows: tokens, entriesPerRow: 20 };
  const products = { provider: 'oneDNN', operandType: 'bf16' } as const;
  const fixed = { weightBytes: weights, frozenCount: 1, workers, products, logitChunkBytes: LOGIT_CHUNK_BYTES };
  return planReplica(QWEN_1_5B, { ...fixed, shape, prefixTokens }, recomputedLayers);
}

/** Tokens of the largest pack that gives each worker as many conversations as the others; 0 when none fits. */
function largestPack(prefixTokens: number, recomputedLayers: number): number {
  const step = workers * CONVERSATION_TOKENS;
  let tokens = 0;
  while (plan(prefixTokens, tokens + step, recomputedLayers).bytes <= stepBytes) tokens += step;
  return tokens;
}

function largestProduct(): { prefixTokens: number; tokens: number } {
  let best = { prefixTokens: 0, tokens: 0 };
  const longest = QWEN_1_5B.contextLength - CONVERSATION_TOKENS;
  for (let prefixTokens = PREFIX_STEP; prefixTokens <= longest; prefixTokens += PREFIX_STEP) {
    const tokens = largestPack(prefixTokens, QWEN_1_5B.layers);
    if (prefixTokens * tokens > best.prefixTokens * best.tokens) best = { prefixTokens, tokens };
  }
  return best;
}
