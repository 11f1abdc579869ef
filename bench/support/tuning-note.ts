import { hashWeights } from '../../src/cartridge/weights-hash.js';
import { cacheFolder } from '../../src/core/environment.js';
import { readGguf } from '../../src/models/gguf.js';
import { readTuning } from '../../src/pipeline/engine-tuning.js';

/** Says which settings of libllama our side runs with: `cartridges tune` keeps them in the cache folder for a model. */
export async function tuningNote(modelPath: string): Promise<string> {
  const tuning = await readTuning(await hashWeights(readGguf(modelPath), cacheFolder()));
  if (!tuning) return 'our engine with its defaults';
  const settings = Object.entries(tuning).map(([name, value]) => `${name} ${value}`);
  return `our engine as \`cartridges tune\` left it: ${settings.join(', ')}`;
}
