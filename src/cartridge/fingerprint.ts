import { closeSync, openSync, readSync } from 'node:fs';
import { CartridgesError } from '../core/errors.js';
import { sha256, sha256Json } from '../core/hashing.js';
import type { GgufFile } from '../models/gguf.js';
import { readModelConfig } from '../models/model-config.js';
import type { Cartridge, ModelFingerprint } from './cartridge.js';

/** The fields of a fingerprint in the order in which a difference is told: what says most comes first. */
const FIELDS: Readonly<Record<keyof ModelFingerprint, string>> = {
  architecture: 'architecture',
  layers: 'number of layers',
  kvHeads: 'number of key/value heads',
  headDimension: 'head size',
  embedding: 'embedding size',
  vocabularySize: 'vocabulary size',
  tokenizerHash: 'tokenizer',
  ropeBase: 'RoPE base',
  ropeScalingHash: 'RoPE scaling',
  quantization: 'quantization',
  weightsHash: 'weights',
};

const WEIGHT_FIELDS: readonly (keyof ModelFingerprint)[] = ['quantization', 'weightsHash'];

export interface FingerprintDifference {
  field: keyof ModelFingerprint;
  expected: string | number;
  found: string | number;
}

/** The fields in which two fingerprints differ, the telling ones first. */
export function compareFingerprints(expected: ModelFingerprint, found: ModelFingerprint): FingerprintDifference[] {
  return (Object.keys(FIELDS) as (keyof ModelFingerprint)[])
    .filter((field) => expected[field] !== found[field])
    .map((field) => ({ field, expected: expected[field], found: found[field] }));
}

/**
 * Throws `CARTRIDGE_MISMATCH`, naming the first field that differs, unless the rows of a cartridge mean the same to `model`.
 * With `allowQuantization` other weights of a model that is the same in all else are accepted, and
 * `quantizationDiffers` says so: a receipt has to record it.
 */
export function assertUsableWith(
  cartridge: Pick<Cartridge, 'model'>,
  model: ModelFingerprint,
  options: { allowQuantization: boolean },
): { quantizationDiffers: boolean } {
  const differences = compareFingerprints(cartridge.model, model);
  const [first] = differences;
  if (!first) return { quantizationDiffers: false };
  const onlyWeights = differences.every(({ field }) => WEIGHT_FIELDS.includes(field));
  if (onlyWeights && options.allowQuantization) return { quantizationDiffers: true };
  throw new CartridgesError('CARTRIDGE_MISMATCH', describeDifference(first), {
    hint: onlyWeights
      ? 'load the model file that it was trained with; if both are the same model in two quantizations, add --allow-quantization'
      : 'load the model that it was trained with, or train a cartridge for this model',
  });
}

function describeDifference({ field, expected, found }: FingerprintDifference): string {
  const [trained, loaded] = [expected, found].map((value) => (field.endsWith('Hash') ? String(value).slice(0, 12) : value));
  return `the cartridge belongs to another model: its ${FIELDS[field]} (${field}) is ${trained}, the loaded model has ${loaded}`;
}

/**
 * The fingerprint of a model file. `weightsHash` comes from `hashWeights`, which reads the whole file.
 * Throws `UNSUPPORTED_MODEL` or `INVALID_MODEL`.
 */
export function fingerprintOf(gguf: GgufFile, weightsHash: string): ModelFingerprint {
  const config = readModelConfig(gguf);
  return {
    architecture: config.architecture,
    layers: config.layers,
    kvHeads: config.kvHeads,
    headDimension: config.headDimension,
    embedding: config.embedding,
    vocabularySize: config.vocabularySize,
    tokenizerHash: hashTokenizer(gguf),
    ropeBase: config.ropeBase,
    ropeScalingHash: hashRopeScaling(gguf, config.architecture),
    quantization: mainType(gguf),
    weightsHash,
  };
}

/**
 * What decides how text becomes tokens and where a turn ends. Padding is left out: no cartridge ever sees it, and tools that
 * requantise a model change it.
 */
function hashTokenizer(gguf: GgufFile): string {
  const key = (name: string) => `tokenizer.ggml.${name}`;
  const specialIds = [...gguf.metadata]
    .filter(([name]) => name.startsWith(key('')) && name.endsWith('_token_id') && name !== key('padding_token_id'))
    .map(([name, id]) => [name, Number(id)]);
  return sha256Json({
    model: gguf.string(key('model')),
    pre: gguf.string(key('pre'), ''),
    tokens: hashList(gguf.strings(key('tokens'))),
    tokenTypes: gguf.metadata.has(key('token_type')) ? hashList(gguf.numbers(key('token_type'))) : null,
    scores: gguf.metadata.has(key('scores')) ? hashList(gguf.numbers(key('scores'))) : null,
    merges: gguf.metadata.has(key('merges')) ? hashList(gguf.strings(key('merges'))) : null,
    specialIds: Object.fromEntries(specialIds),
  });
}

/** Canonical JSON of half a million merges would be slow; a list has one form anyway. */
function hashList(list: readonly (string | number)[]): string {
  return sha256(JSON.stringify(list));
}

function hashRopeScaling(gguf: GgufFile, architecture: string): string {
  const prefix = `${architecture}.rope.scal`;
  const settings = Object.fromEntries(
    [...gguf.metadata].filter(([key]) => key.startsWith(prefix)).map(([key, value]) => [key, String(value)]),
  );
  return sha256Json({ settings, frequencyFactors: hashTensor(gguf, 'rope_freqs.weight') });
}

/** SHA-256 of the data of a small tensor; null when the model has none of that name. */
function hashTensor(gguf: GgufFile, name: string): string | null {
  const tensor = gguf.tensors.get(name);
  if (!tensor) return null;
  const bytes = new Uint8Array(tensor.byteLength);
  const file = openSync(gguf.path, 'r');
  try {
    if (readSync(file, bytes, 0, bytes.length, tensor.offset) === bytes.length) return sha256(bytes);
  } finally {
    closeSync(file);
  }
  throw new CartridgesError('INVALID_MODEL', `${gguf.path} ends inside the tensor ${name}`, {
    hint: 'the file changed or is incomplete: get it again',
  });
}

/** The type that holds most bytes of the weights; of two that hold the same, the one that comes first in the file. */
function mainType(gguf: GgufFile): string {
  const bytes = new Map<string, number>();
  for (const { typeName, byteLength } of gguf.tensors.values()) bytes.set(typeName, (bytes.get(typeName) ?? 0) + byteLength);
  return [...bytes].reduce((most, entry) => (entry[1] > most[1] ? entry : most))[0];
}
