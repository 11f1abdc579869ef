import type { Cartridge } from '../../src/cartridge/cartridge.js';
import { Random } from '../../src/core/random.js';
import type { Golden } from './golden.js';
import { rowsByLayer } from './golden.js';

const HASH = 'a'.repeat(64);

/** A small cartridge of seeded normal numbers: two layers, two heads of four. */
export function randomCartridge(tokenCount: number, frozenCount = 1, seed = 1): Cartridge {
  const random = new Random(seed);
  const layers = () => Array.from({ length: 2 }, () => Float32Array.from({ length: tokenCount * 2 * 4 }, () => random.normal()));
  return {
    model: {
      architecture: 'llama',
      layers: 2,
      kvHeads: 2,
      headDimension: 4,
      embedding: 16,
      vocabularySize: 512,
      tokenizerHash: HASH,
      ropeBase: 10_000,
      ropeScalingHash: HASH,
      quantization: 'F32',
      weightsHash: HASH,
    },
    framing: { name: 'chatml', hash: HASH },
    tokenCount,
    frozenCount,
    keys: layers(),
    values: layers(),
    receipt: { createdBy: 'a test', createdAt: '2025-01-01T00:00:00.000Z', initializer: 'random' },
  };
}

/** The cartridge of golden numbers, `prefix` being `cartridge` or `compose.second`; hashes stand for nothing. */
export function goldenCartridge(golden: Golden, prefix: string, tokenCount: number): Cartridge {
  const { model } = golden;
  const sizes = { layers: model.layers, kvHeads: model.kv_heads, headDimension: model.head_dim, embedding: model.embedding };
  const rest = randomCartridge(1);
  return {
    ...rest,
    model: { ...rest.model, ...sizes, architecture: model.architecture, vocabularySize: model.vocab },
    tokenCount,
    keys: rowsByLayer(golden, `${prefix}.keys`, tokenCount),
    values: rowsByLayer(golden, `${prefix}.values`, tokenCount),
  };
}
