import { CartridgesError } from '../core/errors.js';
import type { GgufFile, GgufTensor } from './gguf.js';
import { type ArchitectureTraits, architectureTraits } from './registry.js';

/** Sizes and settings of a model, as its GGUF states them. */
export interface ModelConfig {
  architecture: string;
  traits: ArchitectureTraits;
  layers: number;
  embedding: number;
  heads: number;
  kvHeads: number;
  headDimension: number;
  feedForward: number;
  vocabularySize: number;
  contextLength: number;
  ropeBase: number;
  rmsEpsilon: number;
  /** The token embedding is the output matrix too. */
  tiedEmbeddings: boolean;
}

/** Reads and checks the configuration. Throws `UNSUPPORTED_MODEL` or `INVALID_MODEL` naming the file and what is wrong. */
export function readModelConfig(gguf: GgufFile): ModelConfig {
  const architecture = gguf.string('general.architecture');
  const traits = architectureTraits(architecture, gguf.path);
  const read = (key: string, fallback?: number) => gguf.number(`${architecture}.${key}`, fallback);
  const heads = read('attention.head_count');
  const embedding = read('embedding_length');
  const config: ModelConfig = {
    architecture,
    traits,
    layers: read('block_count'),
    embedding,
    heads,
    kvHeads: read('attention.head_count_kv', heads),
    headDimension: read('attention.key_length', embedding / heads),
    feedForward: read('feed_forward_length'),
    vocabularySize: requireTensor(gguf, 'token_embd.weight').shape[1] ?? 0,
    contextLength: read('context_length'),
    ropeBase: read('rope.freq_base', 10_000),
    rmsEpsilon: read('attention.layer_norm_rms_epsilon'),
    tiedEmbeddings: !gguf.tensors.has('output.weight'),
  };
  refuseUnsupportedFeatures(gguf, config);
  checkConfig(config, gguf.path);
  checkConstants(config, gguf.path);
  checkTensors(config, gguf);
  return config;
}

/** Shapes, innermost first, of the tensors of layer `layer`, by their name after `blk.N.`. */
export function layerTensorShapes(config: ModelConfig): Record<string, number[]> {
  const { embedding, feedForward, headDimension, traits } = config;
  const queries = config.heads * headDimension;
  const keys = config.kvHeads * headDimension;
  return {
    'attn_norm.weight': [embedding],
    'attn_q.weight': [embedding, queries],
    'attn_k.weight': [embedding, keys],
    'attn_v.weight': [embedding, keys],
    ...(traits.attentionBias ? { 'attn_q.bias': [queries], 'attn_k.bias': [keys], 'attn_v.bias': [keys] } : {}),
    ...(traits.headNorm ? { 'attn_q_norm.weight': [headDimension], 'attn_k_norm.weight': [headDimension] } : {}),
    'attn_output.weight': [queries, embedding],
    'ffn_norm.weight': [embedding],
    'ffn_gate.weight': [embedding, feedForward],
    'ffn_up.weight': [embedding, feedForward],
    'ffn_down.weight': [feedForward, embedding],
  };
}

function checkConfig(config: ModelConfig, path: string): void {
  const counts = [
    'layers',
    'embedding',
    'heads',
    'kvHeads',
    'headDimension',
    'feedForward',
    'vocabularySize',
    'contextLength',
  ] as const;
  for (const name of counts) {
    if (Number.isInteger(config[name]) && config[name] > 0 && config[name] < 2 ** 31) continue;
    throw new CartridgesError('INVALID_MODEL', `${path}: ${name} is ${config[name]}`, {
      hint: 'the file is damaged; get it again',
    });
  }
  if (config.heads % config.kvHeads !== 0 || config.headDimension % 2 !== 0 || config.layers > 1024) {
    const sizes = `${config.layers} layers, ${config.heads} heads, ${config.kvHeads} key/value heads of ${config.headDimension}`;
    throw new CartridgesError('INVALID_MODEL', `${path}: ${sizes} do not make a model`);
  }
}

/** ggml ends the process on a negative epsilon; the other numbers only make a model that says nothing. */
function checkConstants({ rmsEpsilon, ropeBase }: ModelConfig, path: string): void {
  const areUsual = rmsEpsilon >= 0 && rmsEpsilon < 1 && ropeBase > 0 && ropeBase < Number.POSITIVE_INFINITY;
  if (areUsual) return;
  const constants = `an epsilon of ${rmsEpsilon} and a RoPE base of ${ropeBase}`;
  throw new CartridgesError('INVALID_MODEL', `${path}: ${constants} do not make a model`, {
    hint: 'the file is damaged; get it again',
  });
}

/** Features of the family that the student's forward pass does not have must be refused, not ignored. */
function refuseUnsupportedFeatures(gguf: GgufFile, { architecture, headDimension }: ModelConfig): void {
  const refuse = (what: string): never => {
    throw new CartridgesError('UNSUPPORTED_MODEL', `${gguf.path} uses ${what}, which is not supported`);
  };
  if (gguf.number(`${architecture}.expert_count`, 0) > 0) refuse('a mixture of experts');
  if (gguf.metadata.has(`${architecture}.attention.sliding_window`)) refuse('sliding-window attention');
  const ownScaling = ['rope.scaling.factor', 'rope.scale_linear'].some((key) => gguf.metadata.has(`${architecture}.${key}`));
  const scaling = gguf.string(`${architecture}.rope.scaling.type`, ownScaling ? 'linear' : 'none');
  if (scaling !== 'none') refuse(`RoPE scaling of type ${scaling}`);
  // libllama ends the process for some architectures when RoPE turns only a part of a head.
  const rotated = gguf.number(`${architecture}.rope.dimension_count`, headDimension);
  if (rotated !== headDimension) refuse(`RoPE on ${rotated} of ${headDimension} values of a head`);
  const valueLength = gguf.number(`${architecture}.attention.value_length`, headDimension);
  if (valueLength !== headDimension) refuse(`values of ${valueLength} beside keys of ${headDimension}`);
}

function checkTensors(config: ModelConfig, gguf: GgufFile): void {
  const expect = (name: string, shape: number[]) => {
    const { shape: found, typeName } = requireTensor(gguf, name);
    const fits =
      shape.every((extent, axis) => found[axis] === extent) && found.slice(shape.length).every((extent) => extent === 1);
    // ggml ends the process where a norm, a bias or RoPE's factors are of another type.
    if (fits && (shape.length > 1 || typeName === 'F32')) return;
    const wanted = shape.length > 1 ? `[${shape}]` : `[${shape}] in F32`;
    throw new CartridgesError('INVALID_MODEL', `${gguf.path}: tensor ${name} is [${found}] in ${typeName}, expected ${wanted}`, {
      hint: 'the file is damaged, or was converted wrongly: get it from another source',
    });
  };
  expect('token_embd.weight', [config.embedding, config.vocabularySize]);
  expect('output_norm.weight', [config.embedding]);
  if (!config.tiedEmbeddings) expect('output.weight', [config.embedding, config.vocabularySize]);
  if (gguf.tensors.has('rope_freqs.weight')) expect('rope_freqs.weight', [config.headDimension / 2]);
  const shapes = Object.entries(layerTensorShapes(config));
  for (let layer = 0; layer < config.layers; layer++) {
    for (const [name, shape] of shapes) expect(`blk.${layer}.${name}`, shape);
  }
}

function requireTensor(gguf: GgufFile, name: string): GgufTensor {
  const tensor = gguf.tensors.get(name);
  if (tensor) return tensor;
  throw new CartridgesError('INVALID_MODEL', `${gguf.path}: the tensor ${name} is missing`, {
    hint: 'the file is incomplete, or a model of another family under this name',
  });
}
