/**
 * Runs in a process of its own: `fuzz-native-child.ts KIND MODEL ROUNDS FOLDER`, KIND being `model`, `cartridge` (damaged files)
 * or `rows` (whole files with extreme numbers). Breaks something again and again, uses what the readers let through as a
 * command would, and ends with a line of JSON that counts. A library that aborts ends the process; the number in
 * `FOLDER/round` then says which round did it.
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

const KINDS = { model: breakModels, cartridge: breakCartridges, rows: breakRows };

const [kind, modelName, rounds, folder] = process.argv.slice(2) as [keyof typeof KINDS, string, string, string];
const golden = readGolden(modelName);
console.log(JSON.stringify(await KINDS[kind]()));
process.exit(0);

/** The header of a model is damaged; what can still be read is loaded for inference and for training. */
async function breakModels() {
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
  const path = join(folder, 'damaged.gguf');
  return everyRound(async (random) => {
    writeFileSync(path, damaged(original, regions, random));
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

/** Bytes of a cartridge file are damaged, in its header or its rows. */
async function breakCartridges() {
  const path = join(folder, 'damaged.safetensors');
  await writeCartridge(path, goldenCartridge(golden, 'cartridge', golden.cartridge.rows), { dtype: 'f32' });
  const original = readFileSync(path);
  const headerEnd = 8 + Number(original.readBigUInt64LE());
  const regions: [number, number][] = [
    [0, 64],
    [0, headerEnd],
    [headerEnd, original.length],
  ];
  const use = await cartridgeUser();
  return everyRound(async (random) => {
    writeFileSync(path, damaged(original, regions, random));
    await use(path);
  });
}

/** A whole file of rows that no training gives: any bits in a few places. */
async function breakRows() {
  const path = join(folder, 'extreme.safetensors');
  const cartridge = goldenCartridge(golden, 'cartridge', golden.cartridge.rows);
  const use = await cartridgeUser();
  return everyRound(async (random) => {
    const disturb = (layer: Float32Array) => {
      const bits = new Uint32Array(layer.slice().buffer);
      for (let place = 0; place < 8; place++) bits[random.integer(bits.length)] = random.next();
      return new Float32Array(bits.buffer);
    };
    await writeCartridge(
      path,
      { ...cartridge, keys: cartridge.keys.map(disturb), values: cartridge.values.map(disturb) },
      { dtype: 'f32' },
    );
    await use(path);
  });
}

async function cartridgeUser(): Promise<(path: string) => Promise<void>> {
  const model = await LanguageModel.load({ modelPath: golden.path, device: 'cpu', threads: 1 });
  // A cache of f32 takes rows that one of f16 refuses as too large.
  const engine = await model.createContext({ contextTokens: 64, maxRequests: 1, cacheType: 'f32', flashAttention: false });
  return async (path) => {
    const handle = await engine.loadCartridge(await readCartridge(path));
    try {
      await engine.complete({ prompt: TOKENS, maxTokens: 2, sampling: { temperature: 0 }, cartridges: [handle] });
    } finally {
      await engine.unloadCartridge(handle);
    }
  };
}

async function everyRound(
  attempt: (random: Random) => Promise<void>,
): Promise<{ used: number; refused: Record<string, number> }> {
  const counts = { used: 0, refused: {} as Record<string, number> };
  for (let round = 0; round < Number(rounds); round++) {
    writeFileSync(join(folder, 'round'), String(round));
    try {
      await attempt(new Random(round));
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
