import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ADMIN, fileBytes, pocketCartridge, refer, streamOf, temporaryFolder } from '../../../test/support/library-fixture.js';
import type { InferenceEngine } from '../../inference/inference-engine.js';
import { ModelSession } from '../../pipeline/model-session.js';
import type { HeldCartridges } from './cartridge-library.js';
import { openCartridgeLibrary, type ServedCartridges } from './open-cartridge-library.js';

let session: ModelSession;
let engine: InferenceEngine;
let library: ServedCartridges;
let temporary: Awaited<ReturnType<typeof temporaryFolder>>;

beforeAll(async () => {
  session = await ModelSession.open({ model: 'pocket', threads: 1 });
  engine = await session.createEngine({ contextTokens: 512, maxRequests: 8, batchTokens: 64, retainTurns: true });
  temporary = await temporaryFolder();
  library = await openCartridgeLibrary({ folder: join(temporary.path, 'library'), engine, session });
});
afterAll(async () => {
  await library.close();
  await engine.dispose();
  await session.dispose();
  await temporary.remove();
});

const upload = async (seed: number, replace = false) =>
  library.upload({ id: 'notes', stream: streamOf(await fileBytes(pocketCartridge(seed, session))), replace }, ADMIN);
const hold = () => library.hold([refer('notes')], ADMIN);
/** The log-probability of the first token behind a prompt that leaves many open. */
const firstLogprob = async ({ handles }: HeldCartridges) => {
  const request = { prompt: session.tokenizer.encode('The'), cartridges: handles, maxTokens: 1, topLogprobs: 1 };
  const { logprobs } = await engine.complete({ ...request, sampling: { temperature: 0 }, ignoreEndOfGeneration: true });
  return logprobs[0]!;
};

it('keeps the rows of running requests through replacing, unloading and deleting, in the real engine', async () => {
  await upload(1);
  const old = await hold();
  const alone = await firstLogprob(old);
  expect((await library.inspect('notes')).isResident).toBe(true);

  await upload(2, true);
  const renewed = await hold();
  const [again, other] = await Promise.all([firstLogprob(old), firstLogprob(renewed)]);
  expect(again).toBeCloseTo(alone, 2);
  expect(Math.abs(other - alone)).toBeGreaterThan(0.01);

  // The rows of both are dropped and read again from files, one of which no name stands for.
  for (const { handles } of [old, renewed]) expect(await engine.evict(handles[0]!)).toBe(true);
  expect(await firstLogprob(old)).toBeCloseTo(alone, 2);
  await library.remove('notes');
  expect(await firstLogprob(renewed)).toBeCloseTo(other, 2);

  old.release();
  renewed.release();
  await library.close();
  await engine.whenIdle();
  expect(engine.isResident(old.handles[0]!)).toBe(false);
  expect(engine.usage).toMatchObject({ residentCartridges: 0, cartridgeCells: 0 });
});

it('reads rows before the first request when it is told to', async () => {
  await upload(3, true);
  await library.load('notes');
  expect(engine.usage.residentCartridges).toBe(1);
  await library.unload('notes');
  expect(engine.usage.residentCartridges).toBe(0);
});
