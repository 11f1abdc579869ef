/**
 * What a cartridge's rows belong to. Two models with equal fingerprints give the same meaning to the same rows.
 * `weightsHash` covers types and data of the weights; a requantised file differs in it and in `quantization` alone.
 */
export interface ModelFingerprint {
  architecture: string;
  layers: number;
  kvHeads: number;
  headDimension: number;
  embedding: number;
  vocabularySize: number;
  tokenizerHash: string;
  ropeBase: number;
  ropeScalingHash: string;
  /** For example `Q8_0`: the type that holds most of the weights. */
  quantization: string;
  weightsHash: string;
}

/** How the text around a cartridge is turned into tokens: it must be the same when it is used as when it was trained. */
export interface FramingStamp {
  name: string;
  hash: string;
}

/** How a cartridge was made; free of machine paths and of secrets. */
export interface Receipt {
  createdBy: string;
  createdAt: string;
  initializer: string;
  [key: string]: unknown;
}

/**
 * A trained stand-in for a corpus: per layer `tokenCount` rows of keys and values, [p, Hkv, D] row-major in f32, in the key
 * order of the GGUF, keys rotated for positions 0 … p − 1. The first `frozenCount` rows are not trained.
 */
export interface Cartridge {
  model: ModelFingerprint;
  framing: FramingStamp;
  tokenCount: number;
  frozenCount: number;
  keys: Float32Array[];
  values: Float32Array[];
  receipt: Receipt;
}
