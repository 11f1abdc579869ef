import { CartridgesError } from '../core/errors.js';
import type { GraphLane } from './graph-lane.js';
import { type MemoryPlan, requireMemory } from './memory-plan.js';

/** The lanes of a graph step and what all of it needs. */
export interface PlannedLanes {
  lanes: readonly GraphLane[];
  plan: MemoryPlan;
}

/** Makes the lanes with this many first layers whose activations are computed again. Throws `OUT_OF_MEMORY` when the device refuses. */
type CreateLanes = (recomputedLayers: number) => PlannedLanes;

/**
 * Lanes that keep the activations of as many layers as fit into `memoryBytes`, and compute the others again: the results are the
 * same, and a step takes up to a third longer. Throws `OUT_OF_MEMORY`, with the plan where the device did not refuse before.
 */
export function createFittingLanes(layers: number, memoryBytes: number, create: CreateLanes): PlannedLanes {
  const kept = tryToCreate(create, 0);
  if (kept && kept.plan.bytes <= memoryBytes) return kept;
  dispose(kept);
  // The way back begins with the last layer: what it keeps is needed at once.
  const most = layers - 1;
  const least = create(most);
  // On a device that is nearly full, what is held would leave no room for what is tried.
  if (kept || least.plan.bytes > memoryBytes) dispose(least);
  requireMemory(least.plan, memoryBytes);
  return kept ? createLargest({ most, memoryBytes, kept: kept.plan.bytes, least: least.plan.bytes }, create) : least;
}

/** Lanes that compute the fewest layers again that fit; `kept` and `least` are the bytes with none and with `most` of them. */
function createLargest(
  { most, memoryBytes, kept, least }: { most: number; memoryBytes: number; kept: number; least: number },
  create: CreateLanes,
): PlannedLanes {
  // Each layer saves about as much as any other.
  const savedShare = (kept - memoryBytes) / (kept - least);
  for (let count = Math.ceil(most * savedShare); count < most; count++) {
    const fewer = tryToCreate(create, count);
    if (fewer && fewer.plan.bytes <= memoryBytes) return fewer;
    dispose(fewer);
  }
  return create(most);
}

function tryToCreate(create: CreateLanes, recomputedLayers: number): PlannedLanes | undefined {
  try {
    return create(recomputedLayers);
  } catch (error) {
    if (CartridgesError.is(error) && error.code === 'OUT_OF_MEMORY') return undefined;
    throw error;
  }
}

function dispose(planned: PlannedLanes | undefined): void {
  for (const lane of planned?.lanes ?? []) lane.dispose();
}
