import { CartridgesError } from '../core/errors.js';
import { formatBytes } from '../core/format-bytes.js';

/** What a training step takes, known before the first one. */
export interface MemoryPlan {
  bytes: number;
  description: string;
  /** Its parts in bytes, by name. */
  parts: Readonly<Record<string, number>>;
  /** What was chosen to save memory, or not to. */
  choice?: string;
}

/** A plan from its parts in bytes. */
export function planMemory(parts: Readonly<Record<string, number>>, choice?: string): MemoryPlan {
  const bytes = Object.values(parts).reduce((sum, part) => sum + part, 0);
  const list = Object.entries(parts).map(([name, count]) => `${name} ${formatBytes(count)}`);
  const head = choice === undefined ? formatBytes(bytes) : `${formatBytes(bytes)}, ${choice}`;
  return { bytes, description: `${head}: ${list.join(', ')}`, parts, ...(choice !== undefined && { choice }) };
}

/** A plan with more parts. */
export function extendPlan({ parts, choice }: MemoryPlan, more: Readonly<Record<string, number>>): MemoryPlan {
  return planMemory({ ...parts, ...more }, choice);
}

/** What a plan says of layers whose activations are computed again. */
export function describeRecomputation(recomputedLayers: number, layers: number): string {
  if (recomputedLayers === 0) return 'activations kept';
  return `activations recomputed in ${recomputedLayers} of ${layers} layers`;
}

/** The plan, when it fits. Throws `OUT_OF_MEMORY` with the plan when not. */
export function requireMemory<Plan extends MemoryPlan>(plan: Plan, memoryBytes: number): Plan {
  if (plan.bytes <= memoryBytes) return plan;
  throw new CartridgesError(
    'OUT_OF_MEMORY',
    `a training step needs ${plan.description}; ${formatBytes(memoryBytes)} may be used`,
    {
      hint: 'free some memory or raise training.memory; fewer training.workers, a smaller cartridge and a smaller model need less',
    },
  );
}
