/**
 * Runs in a process of its own: `fuzz-native-child.ts KIND COUNT FOLDER`. Damages a golden file again and again, uses what the
 * readers let through as a real command would, and ends with a line of JSON that counts. A library that aborts ends the
 * process; the last number in `FOLDER/round` then says which damage did it.
 */

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { readCartridge, writeCartridge } from '../../src/cartridge/cartridge-file.js';
import { CartridgesError } from '../../src/core/errors.js';
import { Random } from '../../src/core/random.js';
import type { InferenceEngine } from '../../src/inference/inference-engine.js';
import { LanguageModel } from '../../src/inference/language-model.js';
import { EXACT_WEIGHTS, FrozenModel } from '../../src/models/frozen-model.js';
import { readGguf } from '../../src/models/gguf.js';
import { runForward } from '../../src/models/run-forward.js';
import { Backend } from '../../src/tensor/backend.js';
import { goldenCartridge } from './cartridges.js';
import { damaged } from './damage.js';
import { readGolden } from './golden.js';

const TOKENS = Int32Array.of(5, 6, 7);

const golden = readGolden('tiny-llama');
const [kind, count, folder] = process.argv.slice(2) as [string, string, string];
const counts = kind === 'model' ? await fuzzModel() : await fuzzCartridge();
console.log(JSON.stringify(counts));
process.exit(0);

async function fuzzModel() {
  const backend = new Backend({ device: 'cpu', threads: 1 });
  const original = readFileSync(golden.path);
  const vocabulary = original.indexOf('tokenizer.ggml.tokens');
  const settings = original.indexOf('tokenizer.ggml.bos_token_id');
  const headerEnd = Math.min(...[...readGguf(golden.path).tensors.values()].map(({ offset }) => offset));
  const regions: [number, number][] = [
    [0, vocabulary],
    [vocabulary, settings],
    [settings, headerEnd],
  ];
  return everyRound(regions, original, 'damaged.gguf', async (path) => {
    const model = await LanguageModel.load({ modelPath: path, device: 'cpu', threads: 1 });
    const student = await FrozenModel.load(backend, readGguf(path), EXACT_WEIGHTS);
    try {
      model.tokenizer.decode(model.tokenizer.encode('Who keeps the light?'));
      await model.createContext({ contextTokens: 64, maxRequests: 1 }).then(generate);
      await runForward(student, { tokens: TOKENS, wantLogits: true });
    } finally {
      await student.dispose();
      await model.dispose();
    }
  });
}

async function fuzzCartridge() {
  const model = await LanguageModel.load({ modelPath: golden.path, device: 'cpu', threads: 1 });
  const engine = await model.createContext({ contextTokens: 64, maxRequests: 1 });
  const path = join(folder, 'damaged.safetensors');
  await writeCartridge(path, goldenCartridge(golden, 'cartridge', golden.cartridge.rows), { dtype: 'f32' });
  const original = readFileSync(path);
  const headerEnd = 8 + Number(original.readBigUInt64LE());
  const regions: [number, number][] = [
    [0, 64],
    [0, headerEnd],
    [headerEnd, original.length],
  ];
  return everyRound(regions, original, 'damaged.safetensors', async (path) => {
    const handle = await engine.loadCartridge(await readCartridge(path));
    await engine.complete({ prompt: TOKENS, maxTokens: 2, sampling: { temperature: 0 }, cartridges: [handle] });
    await engine.unloadCartridge(handle);
  });
}

async function everyRound(
  regions: readonly [number, number][],
  original: Buffer,
  name: string,
  use: (path: string) => Promise<void>,
): Promise<{ used: number; refused: Record<string, number> }> {
  const path = join(folder, name);
  const counts = { used: 0, refused: {} as Record<string, number> };
  for (let round = 0; round < Number(count); round++) {
    writeFileSync(join(folder, 'round'), String(round));
    writeFileSync(path, damaged(original, regions, new Random(round)));
    try {
      await use(path);
      counts.used++;
    } catch (error) {
      if (!CartridgesError.is(error)) throw error;
      counts.refused[error.code] = (counts.refused[error.code] ?? 0) + 1;
    }
  }
  return counts;
}

async function generate(engine: InferenceEngine): Promise<void> {
  try {
    await engine.complete({ prompt: TOKENS, maxTokens: 2, sampling: { temperature: 0 } });
  } finally {
    await engine.dispose();
  }
}
