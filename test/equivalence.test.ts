import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test, vi } from 'vitest';
import type { Cartridge } from '../src/cartridge/cartridge.js';
import { initializeRows } from '../src/cartridge/initializers/initialize.js';
import { Random } from '../src/core/random.js';
import { ModelSession } from '../src/pipeline/model-session.js';
import { assertEquivalence, type VerifyReport, verifyEquivalence } from '../src/pipeline/verify.js';
import { goldenCartridge, randomCartridge } from './support/cartridges.js';
import { goldenNames, readGolden } from './support/golden.js';
import { HAS_SMOLLM2, SMOLLM2_NOTE, SMOLLM2_PATH } from './support/smollm2.js';

const TEXT = 'What does the text say of the harbour, and who keeps the light there?';

const cache = mkdtempSync(join(tmpdir(), 'cartridges-equivalence-'));
process.env['CARTRIDGES_CACHE'] = cache;
afterAll(() => rmSync(cache, { recursive: true }));

describe.each(goldenNames())('%s', (name) => {
  const golden = readGolden(name);
  const cartridge = goldenCartridge(golden, 'cartridge', golden.cartridge.rows);

  test('student and libllama agree behind the golden cartridge', async () => {
    const report = await withModel(golden.path, (session) =>
      verifyEquivalence({ session, cartridge, text: TEXT, weightType: 'f32' }),
    );
    show(name, report);
    expect(report.tokens).toBeGreaterThan(10);
    expect(report.passed).toBe(true);
    expect(() => assertEquivalence(report)).not.toThrow();
  });

  const disturbances = [
    { what: 'every key has moved on by one row', disturb: moveKeys, seenIfQuantized: true },
    { what: 'one layer of values is off by a tenth', disturb: scaleFirstValues, seenIfQuantized: false },
  ];
  // libllama rounds activations of quantised models to 8 bits, and that hides what is small.
  const visible = disturbances.filter(({ seenIfQuantized }) => seenIfQuantized || !name.includes('q8'));

  test.each(visible)('fails where $what in libllama', async ({ disturb }) => {
    const report = await withModel(golden.path, (session) => {
      serveDisturbed(session, disturb);
      return verifyEquivalence({ session, cartridge, text: TEXT, weightType: 'f32' });
    });
    show(`${name}, disturbed`, report);
    expect(report.passed).toBe(false);
    expect(() => assertEquivalence(report)).toThrow(
      expect.objectContaining({ code: 'GATE_FAILED', message: expect.stringMatching(/max \|Δlogit\| \d/) }),
    );
  });
});

test.skipIf(!HAS_SMOLLM2)(`SmolLM2 agrees, and not with disturbed rows${SMOLLM2_NOTE}`, { timeout: 120_000 }, async () => {
  await withModel(SMOLLM2_PATH, async (session) => {
    const cartridge = await textCartridge(session, 32);
    const report = await verifyEquivalence({ session, cartridge, text: TEXT });
    show(`SmolLM2, student in ${session.profile?.chosen.name}`, report);
    expect(report.passed).toBe(true);
    serveDisturbed(session, moveKeys);
    const disturbed = await verifyEquivalence({ session, cartridge, text: TEXT });
    show('SmolLM2, disturbed', disturbed);
    expect(disturbed.passed).toBe(false);
  });
});

async function withModel<T>(model: string, body: (session: ModelSession) => Promise<T>): Promise<T> {
  const session = await ModelSession.open({ model, device: 'cpu', threads: 1 });
  try {
    return await body(session);
  } finally {
    await session.dispose();
  }
}

/** Only what libllama serves is disturbed: the student keeps the rows that it was given. */
function serveDisturbed(session: ModelSession, disturb: (cartridge: Cartridge) => Cartridge): void {
  vi.spyOn(session, 'createEngine').mockImplementation(async (settings) => {
    const engine = await session.languageModel.createContext(settings);
    const load = engine.loadCartridge.bind(engine);
    engine.loadCartridge = (cartridge) => load(disturb(cartridge));
    return engine;
  });
}

function scaleFirstValues(cartridge: Cartridge): Cartridge {
  const [first, ...others] = cartridge.values;
  return { ...cartridge, values: [first!.map((value) => value * 1.1), ...others] };
}

/** Each row's keys take the place of the ones before them. */
function moveKeys(cartridge: Cartridge): Cartridge {
  const rowValues = cartridge.model.kvHeads * cartridge.model.headDimension;
  const move = (layer: Float32Array) => Float32Array.from([...layer.subarray(rowValues), ...layer.subarray(0, rowValues)]);
  return { ...cartridge, keys: cartridge.keys.map(move) };
}

/** What training starts from: rows of a text inside the system framing. */
async function textCartridge(session: ModelSession, tokenCount: number): Promise<Cartridge> {
  const rows = await initializeRows({
    name: 'text',
    model: await session.student(),
    framing: session.framing,
    tokenizer: session.tokenizer,
    corpusText: '',
    tokenCount,
    random: new Random(1),
  });
  return {
    ...randomCartridge(1),
    ...rows,
    model: session.fingerprint,
    framing: { name: session.framing.name, hash: session.framing.hash },
    tokenCount,
  };
}

function show(name: string, { quantization, checks }: VerifyReport): void {
  for (const { engine, largest, meanKl, agreement } of checks) {
    const figures = `max |Δlogit| ${largest.toExponential(2)}, KL ${meanKl.toExponential(2)}, agreement ${agreement.toFixed(2)}`;
    console.info(`${name} (${quantization}), ${engine}: ${figures}`);
  }
}
