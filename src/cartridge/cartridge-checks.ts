import { CartridgesError } from '../core/errors.js';
import type { Cartridge, ModelFingerprint } from './cartridge.js';
import { allFinite, type FloatType } from './float-conversion.js';

/** Rows of one cartridge; more than any supported model's context. */
export const MAX_TOKEN_COUNT = 1 << 20;
export const MAX_LAYERS = 1024;
/** Values of one layer's keys, 2 GiB in f32. */
export const MAX_LAYER_VALUES = 1 << 29;

/** Numbers in one row of keys, or of values, of one layer: Hkv · D. */
export function rowValues(model: Pick<ModelFingerprint, 'kvHeads' | 'headDimension'>): number {
  return model.kvHeads * model.headDimension;
}

/** Throws `INVALID_CARTRIDGE` unless the counts of a cartridge are possible and together within the limits. */
export function checkCounts(cartridge: Pick<Cartridge, 'model' | 'tokenCount' | 'frozenCount'>, where: string): void {
  const { model, tokenCount, frozenCount } = cartridge;
  checkCount(tokenCount, 1, MAX_TOKEN_COUNT, `${where}: the number of rows`);
  checkCount(frozenCount, 0, tokenCount, `${where}: the number of frozen rows`);
  checkCount(model.layers, 1, MAX_LAYERS, `${where}: the number of layers`);
  checkCount(tokenCount * rowValues(model), 1, MAX_LAYER_VALUES, `${where}: the number of values in a layer`);
}

/**
 * Throws `INVALID_CARTRIDGE` unless the arrays of a cartridge have the sizes that its counts say and only hold numbers that
 * are finite, and stay so when keys and values are stored as the types given.
 */
export function checkCartridge(cartridge: Cartridge, types: { keys: FloatType; values: FloatType }, where: string): void {
  checkCounts(cartridge, where);
  const { model, tokenCount } = cartridge;
  const length = tokenCount * rowValues(model);
  for (const kind of ['keys', 'values'] as const) {
    const layers = cartridge[kind];
    if (layers.length !== model.layers)
      throw invalid(`${where} has ${layers.length} layers of ${kind}, its model ${model.layers}`);
    layers.forEach((array, layer) => {
      if (array.length !== length) throw invalid(`${where}: the ${kind} of layer ${layer} are ${array.length}, not ${length}`);
      if (!allFinite(array, types[kind])) throw notFinite(`${where}: the ${kind} of layer ${layer}`, array, types[kind]);
    });
  }
}

function checkCount(count: number, least: number, most: number, what: string): void {
  if (Number.isInteger(count) && count >= least && count <= most) return;
  throw invalid(`${what} is ${count}, not a number from ${least} to ${most}`);
}

function notFinite(what: string, values: Float32Array, type: FloatType): CartridgesError {
  if (!allFinite(values, 'f32')) return invalid(`${what} hold infinite values or such that are no numbers`);
  return invalid(`${what} are too large for ${type}`, 'use bf16 or f32');
}

function invalid(message: string, hint?: string): CartridgesError {
  return new CartridgesError('INVALID_CARTRIDGE', message, { hint });
}
