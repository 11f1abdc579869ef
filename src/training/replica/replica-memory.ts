import type { ModelConfig } from '../../models/model-config.js';
import { OPERAND_BYTES, type OperandType, SCRATCH_BLOCKS } from '../../tensor/products/products.js';
import type { Arena } from './arena.js';
import { BLOCK_VALUES } from './blocks.js';
import type { ReplicaShape } from './replica-shape.js';

/** What the backward pass of a layer needs of its forward pass; addresses. Layers that are computed again share all but `input`. */
export interface LayerMemory {
  /** f32 [tokens, embedding]: what comes in, and what it is after attention. */
  input: bigint;
  afterAttention: bigint;
  /** f32 [tokens]: what the norms of both keep of each row. */
  inputFactors: bigint;
  afterAttentionFactors: bigint;
  /** f32 [tokens, heads, D] and [tokens, Hkv, D] before norm and RoPE; shared too where heads have no norm. */
  rawQueries: bigint;
  rawKeys: bigint;
  /** Operands of the attention by head: [Hkv, tokens, group, D], [Hkv, tokens, D]. */
  queries: bigint;
  keys: bigint;
  values: bigint;
  /** f32 [Hkv, tokens, group]: log Σ exp of each query's scores. */
  logSums: bigint;
  /** Operand [tokens, heads · D]: what the attention mixed. */
  joined: bigint;
  /** f32 [tokens, feedForward]; the last layer has them for its supervised rows alone. */
  gate: bigint;
  up: bigint;
}

/** Where everything of a replica lies. All f32, apart from what is called an operand. */
export type ReplicaMemory = ReturnType<typeof layOutReplica>;

/** Lays out the memory of a replica. Over an arena that only counts this is the plan. */
export function layOutReplica(config: ModelConfig, shape: ReplicaShape, operandType: OperandType, arena: Arena) {
  const sizes = valueCounts(config, shape);
  const floats = (count: number) => arena.take(count * Float32Array.BYTES_PER_ELEMENT);
  const operands = (count: number) => arena.take(count * OPERAND_BYTES[operandType]);
  /** A copy in the operand type; f32 values are operands as they are. */
  const copies = (count: number) => (operandType === 'f32' ? 0n : operands(count));
  const hidden = floats(sizes.hidden);
  /** Where activations become operands of a product with a frozen matrix. */
  const operand = copies(Math.max(sizes.hidden, sizes.queries));
  return {
    layers: layOutLayers(config, shape, floats, operands),
    positions: arena.take(shape.tokens * Int32Array.BYTES_PER_ELEMENT),
    hidden,
    operand,
    /** A normed input, as an operand. */
    normed: operandType === 'f32' ? hidden : operand,
    /** What is to be added to a layer's input. */
    branch: floats(sizes.hidden),
    gradient: floats(sizes.hidden),
    attentionGradient: floats(sizes.hidden),
    rotatedQueries: floats(sizes.queries),
    rotatedKeys: floats(sizes.keys),
    rawValues: floats(sizes.keys),
    /** By head: the attention's result, and gradients of its inputs. */
    mixed: floats(sizes.queries),
    queryGradients: floats(sizes.queries),
    keyGradients: floats(sizes.keys),
    valueGradients: floats(sizes.keys),
    mixedGradients: operands(sizes.queries),
    /** For each query, what was mixed for it times the gradient of that. */
    dotsByToken: floats(sizes.queryRows),
    mixedDots: floats(sizes.queryRows),
    /** [Hkv, p + slotTokens, D]: the cartridge's rows of a layer, and behind them those of a slot. */
    jointKeys: operands(sizes.jointKeys),
    jointValues: operands(sizes.jointKeys),
    jointKeyGradients: floats(sizes.jointKeys),
    jointValueGradients: floats(sizes.jointKeys),
    scores: floats(sizes.scores),
    weightSums: floats(sizes.tileQueries),
    scoreOperands: copies(sizes.scores),
    scoreGradients: operands(sizes.scores),
    feedForward: layOutFeedForward(config, shape.tokens, floats, operands),
    secondOperand: copies(sizes.keys),
    output: layOutOutput(config, shape, floats, operands, copies),
    /** For element-wise kernels. */
    scratch: floats(SCRATCH_BLOCKS * sizes.block),
  };
}

/** The layers share what is computed again, and what none of them reads later. */
function layOutLayers(
  config: ModelConfig,
  shape: ReplicaShape,
  floats: (count: number) => bigint,
  operands: (count: number) => bigint,
): LayerMemory[] {
  const sizes = valueCounts(config, shape);
  const layOutRaw = () => ({ rawQueries: floats(sizes.queries), rawKeys: floats(sizes.keys) });
  const sharedRaw = config.traits.headNorm ? undefined : layOutRaw();
  const layOutKept = (isLast: boolean) => ({
    ...(sharedRaw ?? layOutRaw()),
    afterAttention: floats(sizes.hidden),
    inputFactors: floats(sizes.rows),
    afterAttentionFactors: floats(sizes.rows),
    queries: operands(sizes.queries),
    keys: operands(sizes.keys),
    values: operands(sizes.keys),
    logSums: floats(sizes.queryRows),
    joined: operands(sizes.queries),
    gate: isLast ? 0n : floats(sizes.feedForward),
    up: isLast ? 0n : floats(sizes.feedForward),
  });
  const shared = shape.recomputedLayers > 0 ? layOutKept(false) : undefined;
  return Array.from({ length: config.layers }, (_, index) => {
    const isShared = shared !== undefined && index < shape.recomputedLayers;
    return { input: floats(sizes.hidden), ...(isShared ? shared : layOutKept(index === config.layers - 1)) };
  });
}

function valueCounts({ embedding, heads, kvHeads, headDimension, feedForward }: ModelConfig, shape: ReplicaShape) {
  const { tokens, blockTokens, prefixTokens, slotTokens } = shape;
  const tileQueries = blockTokens * (heads / kvHeads);
  return {
    rows: tokens,
    hidden: tokens * embedding,
    queryRows: tokens * heads,
    queries: tokens * heads * headDimension,
    keys: tokens * kvHeads * headDimension,
    feedForward: tokens * feedForward,
    tileQueries,
    scores: tileQueries * (prefixTokens + slotTokens),
    jointKeys: kvHeads * (prefixTokens + slotTokens) * headDimension,
    block: Math.max(BLOCK_VALUES, embedding),
  };
}

/** Temporary values of a feed-forward layer over `rows` rows. */
export type FeedForwardMemory = ReturnType<typeof layOutFeedForward>;

function layOutFeedForward(
  config: ModelConfig,
  rows: number,
  floats: (count: number) => bigint,
  operands: (count: number) => bigint,
) {
  const inner = rows * config.feedForward;
  return {
    productGradient: floats(inner),
    operand: operands(Math.max(inner, rows * config.embedding)),
    secondOperand: operands(inner),
  };
}

/** The end of the last layer and the output, for one chunk of supervised rows. */
function layOutOutput(
  config: ModelConfig,
  { chunkRows }: ReplicaShape,
  floats: (count: number) => bigint,
  operands: (count: number) => bigint,
  copies: (count: number) => bigint,
) {
  const hidden = chunkRows * config.embedding;
  return {
    rows: floats(hidden),
    rowFactors: floats(chunkRows),
    normed: operands(hidden),
    branch: floats(hidden),
    finalRows: floats(hidden),
    finalFactors: floats(chunkRows),
    gradient: floats(hidden),
    rowGradient: floats(hidden),
    finalGradient: floats(hidden),
    gate: floats(chunkRows * config.feedForward),
    up: floats(chunkRows * config.feedForward),
    logits: floats(chunkRows * config.vocabularySize),
    logitOperand: copies(chunkRows * config.vocabularySize),
    feedForward: layOutFeedForward(config, chunkRows, floats, operands),
  };
}
