import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { PACKAGED_GOLDEN_FOLDER } from '../../test/support/golden.js';
import { loadEngine } from '../native/engine.js';
import { GgmlType } from '../native/ggml.js';
import { ModelSession } from './model-session.js';

const model = join(PACKAGED_GOLDEN_FOLDER, 'tiny-llama.gguf');
const onCpu = { device: 'cpu', threads: 1 };
const folder = mkdtempSync(join(tmpdir(), 'cartridges-session-'));
let session: ModelSession;

beforeAll(async () => {
  session = await ModelSession.open({ model, ...onCpu });
});
afterEach(() => {
  vi.restoreAllMocks();
});
afterAll(async () => {
  await session.dispose();
  rmSync(folder, { recursive: true });
});

/** Counts how often weights are freed. They are not: what is freed twice must fail a test, not end its process. */
const countFreed = () => vi.spyOn(loadEngine().llama, 'llama_model_free').mockReturnValue(undefined);

/** A copy of the model with another text of the same length in one place. */
function changedModel(from: string, to: string): string {
  const path = join(folder, `${to}.gguf`);
  writeFileSync(path, readFileSync(model, 'latin1').replace(from, to), 'latin1');
  return path;
}

test('a student is kept, and gives way to one with the types that another caller needs', async () => {
  const first = await session.student('f32');
  expect(await session.student('f32')).toBe(first);

  // A step that reads one copy in both directions has no use for a second.
  const untransposed = await session.student({ forward: GgmlType.F32, transposed: undefined });
  expect(untransposed.layers[0]?.query.transposed).toBeUndefined();
  const graph = await session.student('f32');
  expect(graph.layers[0]?.query.transposed).toBeDefined();
  expect((await session.student('f16')).types.forward).toBe(GgmlType.F16);
});

test('an aborted load leaves a session that can load again', async () => {
  const { signal } = new AbortController();
  await expect(session.student('bf16', { signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 'CANCELLED' });
  expect((await session.student('bf16', { signal })).types.forward).toBe(GgmlType.BF16);
});

test('a model whose chats cannot be framed is refused, and its weights are freed', async () => {
  const freed = countFreed();
  const load = vi.spyOn(loadEngine().llama.llama_model_load_from_file, 'async');
  const refused = (message: string) => ({ code: 'UNSUPPORTED_MODEL', message: expect.stringContaining(message) });
  const unframed = changedModel('tokenizer.chat_template', 'tokenizer.some_template');
  await expect(ModelSession.open({ model: unframed, ...onCpu })).rejects.toMatchObject(refused('no chat template'));
  // What the file itself says is read before the weights are.
  expect(load).not.toHaveBeenCalled();
  const unsplit = changedModel("message['content']", "message['nothing']");
  await expect(ModelSession.open({ model: unsplit, ...onCpu })).rejects.toMatchObject(refused('chat template'));
  expect([load.mock.calls.length, freed.mock.calls.length]).toEqual([1, 1]);
});

test('a session is disposed once, and has no engine and no student afterwards', async () => {
  const freed = countFreed();
  const disposed = { code: 'CANCELLED', message: expect.stringContaining('disposed') };
  const other = await ModelSession.open({ model, ...onCpu });
  const first = await other.student('f32');
  const freeStudent = vi.spyOn(first, 'dispose');
  await Promise.all([other.dispose(), other.dispose()]);
  await other.dispose();
  expect([freeStudent.mock.calls.length, freed.mock.calls.length]).toEqual([1, 1]);
  await expect(other.createEngine({})).rejects.toMatchObject(disposed);
  await expect(other.student('f32')).rejects.toMatchObject(disposed);
});

test('students that are asked for at once are loaded one after the other, and none outlives its session', async () => {
  countFreed();
  const other = await ModelSession.open({ model, ...onCpu });
  const [first, second] = await Promise.all([other.student('f32'), other.student('f32')]);
  expect(second).toBe(first);
  const freeBackend = vi.spyOn(other.backend, 'dispose');
  const late = Promise.allSettled([other.student('f16'), other.student('bf16')]);
  await other.dispose();
  const cancelled = { reason: { code: 'CANCELLED' } };
  expect(await late).toMatchObject([cancelled, cancelled]);
  expect(freeBackend).toHaveBeenCalledOnce();
});
