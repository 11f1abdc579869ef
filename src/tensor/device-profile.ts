import { keptOr } from '../core/json-cache.js';
import { Random } from '../core/random.js';
import { extraBufferTypes } from '../native/devices.js';
import { ENGINE_VERSION } from '../native/engine.js';
import { GgmlType } from '../native/ggml.js';
import type { GgmlBufferType } from '../native/handles.js';
import { canQuantize, quantize } from '../native/tensor-types.js';
import type { Backend } from './backend.js';
import { CompiledGraph } from './compiled-graph.js';
import { Graph } from './graph.js';
import { measuredTokens, mostExactOf } from './speed-choice.js';
import { TensorStore } from './tensor-store.js';

/** Types in which frozen weights may be multiplied, the most exact first. */
export const PRODUCT_TYPES = { f32: GgmlType.F32, f16: GgmlType.F16, bf16: GgmlType.BF16, q8_0: GgmlType.Q8_0 } as const;
export type ProductTypeName = keyof typeof PRODUCT_TYPES;

/**
 * Q8_0 and smaller types are measured and never chosen by themselves: ggml rounds the other factor to 8 bits too, and the gradient
 * of a cartridge then keeps a cosine of 0.96 to 0.998 with the f32 one (Q8_0: pocket, SmolLM2-135M, two golden models) where 0.999
 * is asked for.
 */
export const EXACT_ENOUGH: readonly string[] = ['f32', 'f16', 'bf16'];

const ROUNDS = 8;

export interface ProductSpeed {
  name: string;
  type: number;
  /** Name of the buffer type, when it is not the device's default one. */
  bufferType?: string;
  gigaflops: number;
}

/** The type of both directions of a frozen linear layer, and what was measured to choose it. */
export interface DeviceProfile {
  device: string;
  threads: number;
  chosen: ProductSpeed;
  measured: ProductSpeed[];
}

export interface FileType {
  name: string;
  type: number;
}

export interface ProfileOptions {
  /** The matrix that most of the work is done with. */
  inputs: number;
  outputs: number;
  /** Type of that matrix in the model's file. */
  fileType?: FileType;
  /** JSON file that keeps the measurement; without it every start measures. */
  cachePath?: string;
}

/**
 * Measures how fast the device multiplies by a frozen matrix in each type and chooses one: the most exact type that no other
 * of sufficient exactness beats by 15 %. Q8_0 is tried in extra buffer types (AMX) too, where the device supports the product there.
 */
export async function profileDevice(backend: Backend, options: ProfileOptions): Promise<DeviceProfile> {
  const { inputs, outputs, fileType, cachePath } = options;
  const engine = `${ENGINE_VERSION.llama}/${ENGINE_VERSION.ggml}`;
  const { name, description } = backend.device;
  const key = [engine, name, description, backend.threads, inputs, outputs, fileType?.name ?? ''].join('|');
  return keptOr(cachePath, key, async () => {
    const measured = await measureProducts(candidates(backend, options), backend, inputs, outputs);
    const chosen = mostExactOf(measured.filter((speed) => EXACT_ENOUGH.includes(speed.name)))!;
    return { device: description, threads: backend.threads, chosen, measured };
  });
}

/** The handle of a buffer type that a profile names; undefined stands for the default one. */
export function bufferTypeNamed(backend: Backend, name: string | undefined): GgmlBufferType | undefined {
  if (name === undefined) return undefined;
  const { engine, device } = backend;
  return extraBufferTypes(engine, device).find((type) => engine.ggml.ggml_backend_buft_name(type) === name);
}

interface Candidate {
  label: Omit<ProductSpeed, 'gigaflops'>;
  bufferType: GgmlBufferType | undefined;
}

function candidates(backend: Backend, { inputs, outputs, fileType }: ProfileOptions): Candidate[] {
  const { engine, device } = backend;
  const types: FileType[] = Object.entries(PRODUCT_TYPES).map(([name, type]) => ({ name, type }));
  const isKnown = types.some(({ type }) => type === fileType?.type);
  if (fileType && !isKnown && canQuantize(engine, fileType.type)) types.push(fileType);
  const plain = types
    .filter(({ type }) => type !== GgmlType.Q8_0 || (inputs % 32 === 0 && outputs % 32 === 0))
    .map((label) => ({ label, bufferType: undefined }));
  const extra = extraBufferTypes(engine, device)
    .filter((bufferType) => supportsQuantizedProduct(backend, bufferType, inputs, outputs))
    .map((bufferType) => {
      const bufferTypeName = engine.ggml.ggml_backend_buft_name(bufferType);
      return { label: { name: 'q8_0', type: GgmlType.Q8_0, bufferType: bufferTypeName }, bufferType };
    });
  return [...plain, ...extra];
}

/** Filling a tensor of a buffer type that does not support its product ends the process: ask before. */
function supportsQuantizedProduct(backend: Backend, bufferType: GgmlBufferType, inputs: number, outputs: number): boolean {
  if (inputs % 32 !== 0 || outputs % 32 !== 0) return false;
  const weights = new TensorStore(backend, 1);
  const weight = weights.declare(GgmlType.Q8_0, inputs, outputs);
  weights.allocate('a measurement', bufferType);
  const others = new TensorStore(backend, 1);
  const x = others.declare(GgmlType.F32, inputs, 32);
  const graph = new Graph(backend);
  const product = graph.linear({ weight }, graph.constant(x));
  const supported = backend.engine.ggml.ggml_backend_supports_op(backend.handle, product.handle);
  graph.dispose();
  others.dispose();
  weights.dispose();
  return supported;
}

/** The best of several rounds, in which the candidates take turns: a moment that another program takes falls on all of them. */
async function measureProducts(
  entries: readonly Candidate[],
  backend: Backend,
  inputs: number,
  outputs: number,
): Promise<ProductSpeed[]> {
  const products = entries.map((candidate) => prepareProduct(backend, candidate, inputs, outputs));
  const best = products.map(() => Number.POSITIVE_INFINITY);
  for (let round = 0; round < ROUNDS; round++) {
    for (const [index, { graph }] of products.entries()) {
      const start = performance.now();
      await graph.compute();
      best[index] = Math.min(best[index]!, performance.now() - start);
    }
  }
  return products.map(({ operations, dispose }, index) => {
    dispose();
    return { ...entries[index]!.label, gigaflops: operations / best[index]! / 1e6 };
  });
}

function prepareProduct(backend: Backend, candidate: Candidate, inputs: number, outputs: number) {
  const tokens = measuredTokens(inputs, outputs);
  const random = new Random(1);
  const draw = (count: number) => Float32Array.from({ length: count }, () => random.uniform() - 0.5);
  const weights = new TensorStore(backend, 1);
  const weight = weights.declare(candidate.label.type, inputs, outputs);
  weights.allocate('a measurement', candidate.bufferType);
  weights.write(weight, quantize(backend.engine, candidate.label.type, draw(inputs * outputs), inputs));
  const others = new TensorStore(backend, 1);
  const x = others.declare(GgmlType.F32, inputs, tokens);
  others.allocate('a measurement');
  others.write(x, draw(inputs * tokens));
  const builder = new Graph(backend);
  const graph = new CompiledGraph(builder, [builder.linear({ weight }, builder.constant(x)).handle]);
  const dispose = () => {
    graph.dispose();
    others.dispose();
    weights.dispose();
  };
  return { graph, operations: 2 * inputs * outputs * tokens, dispose };
}
