import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { LanguageModel } from '../src/inference/language-model.js';
import { FrozenModel } from '../src/models/frozen-model.js';
import { readGguf } from '../src/models/gguf.js';
import { listDevices } from '../src/native/devices.js';
import { loadEngine } from '../src/native/engine.js';
import { koffi } from '../src/native/koffi.js';
import { Backend } from '../src/tensor/backend.js';
import { PRODUCT_TYPES } from '../src/tensor/device-profile.js';
import { GraphStep } from '../src/training/graph-step.js';
import { goldenCartridge } from './support/cartridges.js';
import { runCommand } from './support/command-line.js';
import { goldenNames, readGolden } from './support/golden.js';
import { goldenPack, goldenStepOptions } from './support/golden-pack.js';
import { watchRefusedOperations } from './support/refused-operations.js';

/**
 * ggml's CUDA backend on a device that takes every kernel and computes none (`cuda/stand-in.c` says how strict it is): all operations
 * of training are taken, nothing that the backend does on the processor fails, and no memory is left. It says nothing of results. With
 * the package of that backend: `test/cuda/build.sh FOLDER`, then the test with `LD_LIBRARY_PATH=FOLDER`.
 */
const engine = loadEngine();
const device = listDevices(engine).find(({ description }) => description.startsWith('Stand-in'));

if (!device) test.skip('what CUDA does on the processor (the stand-in for its runtime is not loaded)', () => {});

describe.runIf(device)('CUDA', () => {
  const library = koffi.load(device ? 'libcuda.so.1' : null);
  const count = (name: string) => Number(library.func(`uint64_t ${name}()`)());
  let bytesBefore: number;
  beforeAll(() => {
    bytesBefore = count('stand_in_used_bytes');
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });
  afterAll(() => {
    expect(count('stand_in_used_bytes')).toBe(bytesBefore);
  });

  test('without its runtime doctor says what is missing', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'cartridges-cuda-'));
    const { stdout } = await runCommand(['doctor', '--json'], { folder, environment: { LD_LIBRARY_PATH: '' } });
    rmSync(folder, { recursive: true });
    const problems = JSON.parse(stdout).advice.map(({ problem }: { problem: string }) => problem);
    expect(problems).toContainEqual(
      expect.stringMatching(/linux-x64-cuda is installed, but it could not be loaded: libcu\w+\.so\.13: /),
    );
  });

  describe.each(goldenNames())('%s', (name) => {
    const golden = readGolden(name);

    test.each(Object.entries(PRODUCT_TYPES))('takes every operation of training with weights in %s', async (_, type) => {
      const backend = new Backend({ device: device!.name, threads: 1 });
      const refused = watchRefusedOperations(backend);
      const model = await FrozenModel.load(backend, readGguf(golden.path), { forward: type, transposed: type });
      const step = new GraphStep(model, { ...goldenStepOptions(golden, 'token-mean'), gradientClip: 1 });
      const pack = goldenPack(golden);
      const before = count('stand_in_launches');
      await step.accumulate([pack]);
      await step.evaluate([pack]);
      await step.gradients();
      await step.update(0.01);
      await step.restore(await step.state());
      expect(count('stand_in_launches')).toBeGreaterThan(before);
      expect(refused).toEqual([]);
      step.dispose();
      await model.dispose();
      backend.dispose();
    });

    test.each([true, false])('answers behind a cartridge, flash attention %s', async (flashAttention) => {
      const model = await LanguageModel.load({ modelPath: golden.path, device: device!.name, threads: 1 });
      const inference = await model.createContext({ contextTokens: 512, maxRequests: 4, flashAttention });
      const handle = await inference.loadCartridge(goldenCartridge(golden, 'cartridge', golden.cartridge.rows));
      const answers = [1, 2, 3].map((seed) =>
        inference.complete({
          prompt: Int32Array.from(golden.text.token_ids),
          cartridges: [handle],
          maxTokens: 8,
          topLogprobs: 20,
          sampling: { temperature: 1, seed },
          ignoreEndOfGeneration: true,
        }),
      );
      for (const { tokens } of await Promise.all(answers)) expect(tokens).toHaveLength(8);
      await inference.unloadCartridge(handle);
      await inference.whenIdle();
      expect(inference.freeCells).toBe(inference.contextTokens);
      await model.dispose();
    });
  });
});
