import { CartridgesError } from '../core/errors.js';

/** What sets one supported architecture apart from the plain llama block. */
export interface ArchitectureTraits {
  /** How RoPE pairs the values of a head: `neighbours` (2i, 2i + 1) as llama GGUFs are permuted, `halves` (i, i + D/2). */
  ropePairs: 'neighbours' | 'halves';
  /** Biases on the query, key and value projections. */
  attentionBias: boolean;
  /** RMS norm of each query and key head before RoPE. */
  headNorm: boolean;
}

/** Supported architectures by their GGUF name (`general.architecture`). CONTRIBUTING.md says how to add one. */
const ARCHITECTURES: Readonly<Record<string, ArchitectureTraits>> = {
  llama: { ropePairs: 'neighbours', attentionBias: false, headNorm: false },
  qwen2: { ropePairs: 'halves', attentionBias: true, headNorm: false },
  qwen3: { ropePairs: 'halves', attentionBias: false, headNorm: true },
};

/** The traits of an architecture. Throws `UNSUPPORTED_MODEL` that names it and lists the supported ones. */
export function architectureTraits(name: string, where: string): ArchitectureTraits {
  const traits = Object.hasOwn(ARCHITECTURES, name) ? ARCHITECTURES[name] : undefined;
  if (traits) return traits;
  throw new CartridgesError('UNSUPPORTED_MODEL', `${where} is of architecture ${name}, which is not supported`, {
    hint: `supported: ${Object.keys(ARCHITECTURES).join(', ')}`,
  });
}
