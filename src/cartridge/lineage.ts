import { isObject } from '../core/json.js';
import type { Cartridge, Receipt } from './cartridge.js';

/** What the receipt of a cartridge says of one that it was composed of, or started from. */
export interface ParentDescription {
  /** SHA-256 of its stored rows, where it was read from a file. */
  contentHash?: string;
  tokenCount: number;
  frozenCount: number;
  /** Generations before it; 0 when it was made from no other cartridge. */
  generations: number;
  /** Its own, without the descriptions of its parents. */
  receipt: Omit<Receipt, 'parents'>;
}

/**
 * Describes a cartridge for the receipt of one that is made from it. Of what stands further back only the number of generations
 * stays: with the parents of parents the receipt would grow with every generation, until no file could hold it.
 */
export function describeParent(cartridge: Cartridge, contentHash?: string): ParentDescription {
  const { tokenCount, frozenCount } = cartridge;
  const { parents, ...receipt } = cartridge.receipt;
  const generations = countGenerations(parents);
  return { ...(contentHash !== undefined && { contentHash }), tokenCount, frozenCount, generations, receipt };
}

/** Generations that these parents and what they came from make. */
function countGenerations(parents: unknown): number {
  if (!Array.isArray(parents)) return 0;
  return parents.reduce((most: number, parent: unknown) => Math.max(most, 1 + generationsBefore(parent)), 0);
}

/** Receipts of earlier versions have no count; they hold the parents of parents, down to the first. */
function generationsBefore(parent: unknown): number {
  if (!isObject(parent)) return 0;
  const { generations, receipt } = parent;
  if (Number.isSafeInteger(generations)) return Math.max(0, generations as number);
  return isObject(receipt) ? countGenerations(receipt['parents']) : 0;
}
