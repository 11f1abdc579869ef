import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The golden numbers of this repository. */
export const PACKAGED_GOLDEN_FOLDER = join(import.meta.dirname, '..', 'golden');

/** The folder that golden tests read: `GOLDEN_DIR`, else the one of this repository. */
export const GOLDEN_FOLDER = process.env['GOLDEN_DIR'] ?? PACKAGED_GOLDEN_FOLDER;

export interface GoldenModel {
  file: string;
  architecture: string;
  layers: number;
  embedding: number;
  heads: number;
  kv_heads: number;
  head_dim: number;
  feed_forward: number;
  vocab: number;
  rope_style: 'norm' | 'neox';
  rope_base: number;
  rms_eps: number;
  tied_embeddings: boolean;
  qkv_bias: boolean;
  qk_norm: boolean;
}

interface GoldenMessage {
  role: 'user' | 'assistant' | 'system';
  content: string;
  token_ids: number[] | null;
  top_logprobs: { token_idx: number[]; token_id: number[]; logprobs: number[]; shape: [number, number] } | null;
}

export interface Golden {
  name: string;
  path: string;
  model: GoldenModel;
  tokenizer: { text: string; token_ids: number[] }[];
  chat_template: {
    messages: { role: 'user' | 'assistant' | 'system'; content: string }[];
    add_generation_prompt: boolean;
    text: string;
    token_ids: number[];
  }[];
  text: { text: string; token_ids: number[]; positions: number[] };
  cartridge: { rows: number; frozen_rows: number };
  conversations: { messages: GoldenMessage[] }[];
  pack: { tokens: number[]; segments: number[]; positions: number[] };
  targets: {
    entries: number;
    supervised_tokens: number;
    position: number[];
    logits_row: number[];
    token_id: number[];
    logprob: number[];
  };
  losses: Record<string, number>;
  adam: {
    steps: number;
    learning_rate: number;
    beta1: number;
    beta2: number;
    epsilon: number;
  } & Record<'entry_mean' | 'token_mean', { losses: number[]; loss_after: number }>;
  compose: { rows: [number, number]; tokens: number[]; positions: number[] };
  greedy: {
    prompt: number[];
    first_position: number;
    steps: { token_id: number; top_token_ids: number[]; top_logprobs: number[] }[];
  };
  /** Arrays of the safetensors file, by name. */
  tensors: Record<string, Float32Array>;
}

/** Names of the golden models in the folder. */
export function goldenNames(): string[] {
  return readdirSync(GOLDEN_FOLDER)
    .filter((file) => /^tiny-.*\.json$/.test(file))
    .map((file) => file.slice(0, -'.json'.length));
}

export function readGolden(name: string, folder = GOLDEN_FOLDER): Golden {
  const numbers = JSON.parse(readFileSync(join(folder, `${name}.json`), 'utf8'));
  return {
    ...numbers,
    name,
    path: join(folder, numbers.model.file),
    tensors: readF32Tensors(join(folder, `${name}.safetensors`)),
  };
}

/** A reader of its own, so that the reader under test does not vouch for itself. */
function readF32Tensors(path: string): Record<string, Float32Array> {
  const bytes = readFileSync(path);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, 8 + headerBytes));
  delete header.__metadata__;
  const entries = Object.entries(header as Record<string, { data_offsets: [number, number] }>);
  return Object.fromEntries(
    entries.map(
      ([
        name,
        {
          data_offsets: [start, end],
        },
      ]) => {
        const copy = Uint8Array.from(bytes.subarray(8 + headerBytes + start, 8 + headerBytes + end));
        return [name, new Float32Array(copy.buffer)];
      },
    ),
  );
}

/** [L, Hkv, rows, D] of the golden files as the per-layer [rows, Hkv, D] of this package. */
export function rowsByLayer(golden: Golden, tensor: string, rows: number): Float32Array[] {
  const { layers, kv_heads: kvHeads, head_dim: dimension } = golden.model;
  const source = golden.tensors[tensor]!;
  return Array.from({ length: layers }, (_, layer) => {
    const result = new Float32Array(rows * kvHeads * dimension);
    for (let head = 0; head < kvHeads; head++) {
      for (let row = 0; row < rows; row++) {
        const from = ((layer * kvHeads + head) * rows + row) * dimension;
        result.set(source.subarray(from, from + dimension), (row * kvHeads + head) * dimension);
      }
    }
    return result;
  });
}

export function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  if (a.length !== b.length) return Number.POSITIVE_INFINITY;
  let largest = 0;
  for (let i = 0; i < a.length; i++) {
    const difference = Math.abs(a[i]! - b[i]!);
    if (!(difference <= largest)) largest = difference;
  }
  return largest;
}

export function largestMagnitude(values: ArrayLike<number>): number {
  return largestDifference(values, new Float32Array(values.length));
}

export function cosine(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let [ab, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    ab += a[i]! * b[i]!;
    aa += a[i]! * a[i]!;
    bb += b[i]! * b[i]!;
  }
  return ab / Math.sqrt(aa * bb);
}
