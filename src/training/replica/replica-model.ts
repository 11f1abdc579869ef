import type { FrozenModel } from '../../models/frozen-model.js';
import type { StoredMatrix } from '../../models/matrix-rows.js';
import type { ModelConfig } from '../../models/model-config.js';
import { dataAddress } from '../../native/tensor-fields.js';
import type { FrozenMatrix } from '../../tensor/graph.js';
import type { FrozenOperand, FrozenShape } from '../../tensor/products/products.js';
import type { StoredTensor } from '../../tensor/tensor-store.js';

const MATRICES = ['query', 'key', 'value', 'attentionOutput', 'gate', 'up', 'down'] as const;
const VECTORS = ['attentionNorm', 'feedForwardNorm', 'queryBias', 'keyBias', 'valueBias', 'queryNorm', 'keyNorm'] as const;

type MatrixName = (typeof MATRICES)[number];
type VectorName = (typeof VECTORS)[number];

/** A layer's frozen weights by address. Vectors are f32. */
export interface ReplicaLayer {
  matrices: Record<MatrixName, FrozenOperand>;
  /** Those that the architecture has. */
  vectors: Record<VectorName, bigint | undefined>;
}

/** The frozen model as worker threads see it: plain data. The weights lie in the process's memory and are not copied. */
export interface ReplicaModel {
  config: ModelConfig;
  layers: ReplicaLayer[];
  outputNorm: bigint;
  head: FrozenOperand;
  shapes: Record<MatrixName | 'head', FrozenShape>;
  rope: { mode: number; base: number; factors: bigint | undefined };
  embeddings: StoredMatrix;
}

export function describeModel(model: FrozenModel): ReplicaModel {
  const [first] = model.layers;
  const address = (tensor: StoredTensor | undefined) => tensor && dataAddress(tensor.handle);
  const pick = <Name extends string, Value>(names: readonly Name[], value: (name: Name) => Value) =>
    Object.fromEntries(names.map((name) => [name, value(name)])) as Record<Name, Value>;
  return {
    config: model.config,
    layers: model.layers.map((layer) => ({
      matrices: pick(MATRICES, (name) => operandOf(layer[name])),
      vectors: pick(VECTORS, (name) => address(layer[name])),
    })),
    outputNorm: dataAddress(model.outputNorm.handle),
    head: operandOf(model.head),
    shapes: { ...pick(MATRICES, (name) => shapeOf(first![name])), head: shapeOf(model.head) },
    rope: { mode: model.rope.mode, base: model.rope.base, factors: address(model.rope.factors) },
    embeddings: model.embeddingTable,
  };
}

function operandOf({ weight, transposed }: FrozenMatrix): FrozenOperand {
  return { address: dataAddress(weight.handle), transposedAddress: transposed && dataAddress(transposed.handle) };
}

function shapeOf({ weight, transposed }: FrozenMatrix): FrozenShape {
  const [inputs, outputs] = weight.shape;
  return { inputs, outputs, type: weight.type, transposedType: transposed?.type, rowBytes: weight.rowBytes };
}
