import type { GgmlBackend, GgmlBuffer } from '../../native/handles.js';
import type { AdamUpdate } from '../../tensor/adam.js';
import type { ProductsChoice } from '../../tensor/products/open-products.js';
import type { ReplicaModel } from './replica-model.js';
import type { ReplicaShape } from './replica-shape.js';
import type { ReplicaUnit } from './replica-unit.js';
import type { CartridgeShape } from './shared-cartridge.js';
import type { WorkTimes } from './work-clock.js';

/** What a worker thread is started with. Memory and handles belong to the main thread. */
export interface WorkerStart {
  index: number;
  libraries: { base: string; ggml: string };
  backend: GgmlBackend;
  buffer: GgmlBuffer;
  products: ProductsChoice;
  model: ReplicaModel;
  shape: ReplicaShape;
  memoryAddress: bigint;
  cartridge: CartridgeShape;
  cartridgeAddress: bigint;
  /** Native code is timed by kind of work. */
  profiles: boolean;
}

/** The number of a head, and the sum of the squares of its gradient. */
export type HeadSquares = [head: number, sum: number];

/** What the main thread asks for, one request at a time, and the answers. */
export interface Requests {
  /** Made everything that the shape needs. */
  start: { request: Record<never, never>; answer: { scratchBytes: number; implementations: string[] } };
  run: { request: { unit: ReplicaUnit; wantsGradient: boolean }; answer: { loss: number } };
  /** Adds up the gradients of the worker's share of the heads. */
  reduce: { request: Record<never, never>; answer: { squares: HeadSquares[] } };
  /** Adam on the same share, with `reduces` after adding up its gradients, which are zero afterwards. */
  update: { request: { update: AdamUpdate; reduces: boolean }; answer: { squares: HeadSquares[] } };
  /** Times since the last such request; zeros when nothing is timed. */
  profile: { request: Record<never, never>; answer: { times: WorkTimes } };
  /** The rows were replaced: copies of them as operands are made anew. */
  refresh: { request: Record<never, never>; answer: Record<never, never> };
}
