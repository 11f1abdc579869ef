import { cpus } from 'node:os';
import { setImmediate } from 'node:timers/promises';
import { readEnvironment } from '../../core/environment.js';
import { CartridgesError } from '../../core/errors.js';
import { keepWhereWritable, readKept } from '../../core/json-cache.js';
import { ENGINE_VERSION, type Engine } from '../../native/engine.js';
import { findOneDnn, type OneDnnSearch } from '../../native/onednn/library.js';
import { type ProductCandidate, ProductTrial, type ProviderSpeed, type WeightTypeName } from './product-trial.js';

export interface ProductsProfile {
  /** The version of oneDNN, when there is one. */
  oneDnn: string | undefined;
  /** Why a library that is there is not used. */
  problem: string | undefined;
  measured: ProviderSpeed[];
}

export interface ProductsProfileOptions {
  /** The matrix that most of the work is done with. */
  inputs: number;
  outputs: number;
  /** JSON file that keeps the measurement; without it every start measures. */
  cachePath?: string;
  /** What a search for oneDNN found; by default it is looked for. */
  search?: OneDnnSearch;
}

const ROUNDS = 5;
/** What is measured: another name leaves what was kept before. */
const MEASUREMENT = 'spaced rows';
/** Larger matrices are not multiplied faster. */
const LARGEST_EXTENT = 2_048;

/**
 * Measures what the providers of products reach on one core with a matrix of this size. The measurement is kept by processor
 * and versions, unless something failed that may work the next time. oneDNN is left out, and `problem` says why, when its products
 * are wrong or run in reference code.
 *
 * Frozen matrices alone are measured: they are most of a step, and the providers' attention differs more in the same direction
 * (SmolLM2's tile of 192 queries and 512 keys, both directions, on an AVX2 core: oneDNN 66 GFLOPS, ggml 19).
 */
export async function profileProducts(engine: Engine, options: ProductsProfileOptions): Promise<ProductsProfile> {
  const { inputs, outputs, cachePath, search = findOneDnn() } = options;
  const key = [cpus()[0]?.model, ENGINE_VERSION.ggml, describeSearch(search), inputs, outputs, MEASUREMENT].join('|');
  const kept = cachePath === undefined ? undefined : await readKept(cachePath, key);
  if (kept) return kept as ProductsProfile;
  const { profile, isLasting } = await measureProducts(engine, search, inputs, outputs);
  if (cachePath !== undefined && isLasting) await keepWhereWritable(cachePath, key, profile);
  return profile;
}

function describeSearch(search: OneDnnSearch): string {
  const { oneDnnInstructions = 'all' } = readEnvironment();
  if (search.state === 'found') return `oneDNN ${search.library.version} ${search.library.path} ${oneDnnInstructions}`;
  return search.state === 'missing' ? 'missing' : search.problem;
}

/** The most exact first. */
function candidates(search: OneDnnSearch): ProductCandidate[] {
  const byGgml = (weightType: WeightTypeName): ProductCandidate => ({
    products: { provider: 'ggml', operandType: 'f32' },
    weightType,
  });
  const byOneDnn = (weightType: 'f32' | 'bf16'): ProductCandidate[] =>
    search.state === 'found'
      ? [{ products: { provider: 'oneDNN', operandType: weightType, path: search.library.path }, weightType }]
      : [];
  return [...byOneDnn('f32'), byGgml('f32'), byGgml('f16'), ...byOneDnn('bf16'), byGgml('bf16')];
}

async function measureProducts(engine: Engine, search: OneDnnSearch, inputs: number, outputs: number) {
  let problem = search.state === 'unusable' ? search.problem : undefined;
  let isLasting = true;
  const trials: ProductTrial[] = [];
  for (const candidate of candidates(search)) {
    try {
      trials.push(new ProductTrial(engine, candidate, Math.min(inputs, LARGEST_EXTENT), Math.min(outputs, LARGEST_EXTENT)));
    } catch (error) {
      // A processor without bf16 is no problem of the library.
      const isProblem = candidate.products.provider === 'oneDNN' && candidate.weightType === 'f32';
      if (isProblem) problem = (error as Error).message;
      isLasting &&= !isProblem && error instanceof CartridgesError && error.code === 'ENGINE_FAILURE';
    }
  }
  await measureInTurns(trials);
  const measured = trials.map((trial) => trial.speed);
  for (const trial of trials) trial.dispose();
  const oneDnn = search.state === 'found' ? search.library.version : undefined;
  return { profile: { oneDnn, problem, measured }, isLasting };
}

/** In turns: a moment that another program takes falls on all of them. */
async function measureInTurns(trials: readonly ProductTrial[]): Promise<void> {
  for (let round = 0; round < ROUNDS; round++) {
    for (const trial of trials) {
      trial.measure();
      await setImmediate();
    }
  }
}
