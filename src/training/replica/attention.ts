import { AttentionBackward } from './attention-backward.js';
import { AttentionForward } from './attention-forward.js';
import { AttentionWeights } from './attention-weights.js';
import { type AttentionWork, attentionWorkOf } from './attention-work.js';
import { JointKeys, type PrefixMemory } from './joint-keys.js';
import type { ReplicaContext } from './replica-context.js';
import type { AttentionTile } from './replica-unit.js';

/**
 * Attention tile by tile: some queries of a slot, for one head, see the prefix and the blocks of their slot that hold keys
 * of their conversations, up to their own. Blocks that the mask hides are not computed, and scores of one tile exist at a
 * time: they stay in the core's cache. The backward pass computes them again.
 */
export class Attention {
  readonly #context: ReplicaContext;
  readonly #forward: AttentionForward;
  readonly #backward: AttentionBackward;

  constructor(context: ReplicaContext) {
    const keys = new JointKeys(context);
    this.#context = context;
    const weights = new AttentionWeights(context);
    this.#forward = new AttentionForward(context, keys, weights);
    this.#backward = new AttentionBackward(context, keys, weights);
  }

  workOn(tiles: readonly AttentionTile[], starts: Int32Array): AttentionWork {
    return attentionWorkOf(this.#context, tiles, starts);
  }

  /** See {@link AttentionForward.run}. */
  forward(index: number, prefix: PrefixMemory, work: AttentionWork): void {
    this.#forward.run(index, prefix, work);
  }

  /** See {@link AttentionBackward.run}. */
  backward(index: number, prefix: PrefixMemory, work: AttentionWork, wantsOwn: boolean): void {
    this.#backward.run(this.#context.memory.layers[index]!, prefix, work, wantsOwn);
  }
}
