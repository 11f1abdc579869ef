import { join } from 'node:path';
import { cacheFolder } from '../core/environment.js';
import { CartridgesError } from '../core/errors.js';
import type { RunOptions } from '../core/progress.js';
import type { WeightTypes } from '../models/frozen-model.js';
import type { ModelConfig } from '../models/model-config.js';
import type { Device } from '../native/devices.js';
import type { Backend } from '../tensor/backend.js';
import { PRODUCT_TYPES } from '../tensor/device-profile.js';
import { type ProductsChoice, readsByColumn } from '../tensor/products/open-products.js';
import type { ProviderSpeed } from '../tensor/products/product-trial.js';
import { type ProductsProfile, profileProducts } from '../tensor/products/profile-products.js';
import { mostExactOf } from '../tensor/speed-choice.js';
import type { Settings } from './settings.js';

/** The step that a run trains with, and what the student is loaded in for it. Recorded in the run. */
export type StepChoice =
  | { step: 'graph' }
  | {
      step: 'replica';
      products: ProductsChoice;
      /** Release of the library that multiplies, where it is not the engine itself: another one rounds differently. */
      productsVersion?: string;
      workers: number;
      weightType: string;
      weights: WeightTypes;
    };

/**
 * Chooses the training step. On a processor, where oneDNN is there and measured faster than ggml, it is the replica step; with
 * ggml's products that one is as fast as the graph step, which then is taken. Other devices have the graph step. Settings win.
 * Throws `INVALID_OPTION` for settings that cannot be had here.
 */
export async function chooseTrainingStep(
  backend: Backend,
  { embedding: inputs, feedForward: outputs }: ModelConfig,
  { training }: Settings,
  { onProgress }: RunOptions = {},
): Promise<StepChoice> {
  if (training.step === 'replica' && backend.device.kind !== 'cpu') throw withoutProcessor(backend.device);
  if (training.step === 'graph' || backend.device.kind !== 'cpu') return { step: 'graph' };
  const profile = await profileProducts(backend.engine, { inputs, outputs, cachePath: join(cacheFolder(), 'products.json') });
  const best = chooseProducts(profile, training);
  if (training.products === 'onednn' && best === undefined) throw withoutOneDnn(profile);
  if (profile.problem !== undefined && training.products !== 'ggml') {
    onProgress?.({ kind: 'warning', stage: 'train', message: `oneDNN is not used: ${profile.problem}` });
  }
  if (training.step === 'auto' && best?.products.provider !== 'oneDNN') return { step: 'graph' };
  const products: ProductsChoice = best?.products ?? { provider: 'ggml', operandType: 'f32' };
  const weightType = best?.weightType ?? (training.weightType === 'auto' ? 'f32' : training.weightType);
  const type = PRODUCT_TYPES[weightType];
  // oneDNN reads the same copy of a matrix in both directions.
  const transposed = products.provider === 'ggml' ? type : undefined;
  const weights = { forward: type, transposed, spacesRows: readsByColumn(products) };
  const version = products.provider === 'oneDNN' && profile.oneDnn !== undefined ? { productsVersion: profile.oneDnn } : {};
  return { step: 'replica', products, ...version, workers: training.workers || backend.threads, weightType, weights };
}

function withoutProcessor({ name }: Device): CartridgesError {
  return new CartridgesError('INVALID_OPTION', `training.step is replica, which is for processors, and the device is ${name}`, {
    hint: 'use --device cpu, or leave training.step at auto',
  });
}

function withoutOneDnn({ problem }: ProductsProfile): CartridgesError {
  return new CartridgesError(
    'INVALID_OPTION',
    `training.products is onednn: ${problem ?? 'it was not found, or lacks the type'}`,
    {
      hint: 'cartridges doctor says how to install it, and CARTRIDGES_ONEDNN names a library; ggml needs nothing',
    },
  );
}

/** The most exact provider and type that no other beats by 15 %, of those that the settings allow. */
export function chooseProducts(
  { measured }: Pick<ProductsProfile, 'measured'>,
  { products, weightType }: Pick<Settings['training'], 'products' | 'weightType'>,
): ProviderSpeed | undefined {
  const allowed = measured.filter(
    (speed) =>
      (products === 'auto' || speed.products.provider.toLowerCase() === products) &&
      (weightType === 'auto' || speed.weightType === weightType),
  );
  return mostExactOf(allowed);
}
