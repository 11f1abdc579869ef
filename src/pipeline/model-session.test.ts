import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PACKAGED_GOLDEN_FOLDER } from '../../test/support/golden.js';
import { GgmlType } from '../native/ggml.js';
import { ModelSession } from './model-session.js';

let session: ModelSession;

beforeAll(async () => {
  session = await ModelSession.open({ model: join(PACKAGED_GOLDEN_FOLDER, 'tiny-llama.gguf'), device: 'cpu', threads: 1 });
});
afterAll(() => session.dispose());

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
