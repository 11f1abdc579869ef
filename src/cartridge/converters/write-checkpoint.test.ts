import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { randomCartridge } from '../../../test/support/cartridges.js';
import type { Cartridge } from '../cartridge.js';
import { decodeFloats, encodeFloats } from '../float-conversion.js';
import { parseCheckpoint } from './checkpoint-rows.js';
import { neighboursToHalves } from './key-order.js';
import { readCheckpoint } from './read-checkpoint.js';
import { writeCheckpoint } from './write-checkpoint.js';
import { readZip } from './zip-reader.js';

let folder: string;
let path: string;

const made: string[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'write-checkpoint-'));
  made.push(folder);
  path = join(folder, 'cartridge.pt');
});
afterAll(() => {
  for (const name of made) rmSync(name, { recursive: true });
});

const OPTIONS = { baseModel: 'org/model' };
const rounded = (layers: Float32Array[]) => layers.map((layer) => decodeFloats(encodeFloats(layer, 'bf16'), 'bf16'));

describe.each(['llama', 'qwen3'])('a cartridge of %s', (architecture) => {
  test.each([0, 1, 3, 16])('with %d of 16 rows frozen comes back', async (frozenCount) => {
    const cartridge = withArchitecture(randomCartridge(16, frozenCount), architecture);
    await writeCheckpoint(path, cartridge, OPTIONS);
    const { cartridge: back, type } = await readCheckpoint(path, cartridge);
    expect(type).toBe('bf16');
    const rows = { keys: rounded(cartridge.keys), values: rounded(cartridge.values) };
    expect(back).toEqual({ ...cartridge, ...rows, receipt: expect.objectContaining({ initializer: 'imported' }) });
  });
});

test('the rows of a llama are written in the order of Hugging Face', async () => {
  const cartridge = randomCartridge(4);
  await writeCheckpoint(path, cartridge, OPTIONS);
  const { keys } = parseCheckpoint(readFileSync(path), path);
  expect(keys).toEqual(rounded(cartridge.keys).map((layer) => neighboursToHalves(layer, 4)));
});

test('the archive has the entries that torch looks for', async () => {
  const cartridge = randomCartridge(16);
  await writeCheckpoint(path, cartridge, OPTIONS);
  const entries = readZip(readFileSync(path), path);
  // Four lists of two layers.
  const storages = Array.from({ length: 8 }, (_, key) => `cartridge/data/${key}`);
  const others = ['data.pkl', '.format_version', '.storage_alignment', 'byteorder'].map((name) => `cartridge/${name}`);
  expect([...entries.keys()]).toEqual([...others, ...storages, 'cartridge/version']);
  const text = (name: string) => Buffer.from(entries.get(`cartridge/${name}`)!).toString('latin1');
  expect([text('version'), text('byteorder'), text('.storage_alignment')]).toEqual(['3\n', 'little', '64']);
  expect(
    text('data.pkl')
      .match(/c[\w.]+\n\w+\n/g)
      ?.slice(0, 3),
  ).toEqual(['ctorch._utils\n_rebuild_tensor_v2\n', 'ctorch\nBFloat16Storage\n', 'ccollections\nOrderedDict\n']);
  // 15 rows of the first layer that are not frozen, head by head.
  expect(entries.get('cartridge/data/0')!.length).toBe(2 * 15 * 4 * 2);
});

test('the configuration says what the server must know', async () => {
  const { configPath, warnings } = await writeCheckpoint(path, randomCartridge(32), { baseModel: 'org/"model": x' });
  expect(configPath).toBe(join(folder, 'config.yaml'));
  expect(warnings).toEqual([]);
  expect(readFileSync(configPath, 'utf8')).toBe(
    [
      'kv_cache_initializer:',
      '  max_tokens: 32',
      '  num_frozen_tokens: 1',
      'model:',
      '  pretrained_model_name_or_path: "org/\\"model\\": x"',
      '',
    ].join('\n'),
  );
});

test('what the Python project could not load is said', async () => {
  const { warnings } = await writeCheckpoint(path, randomCartridge(17, 0), OPTIONS);
  expect(warnings).toEqual([
    expect.stringMatching(/17 rows are not a multiple of 16/),
    expect.stringMatching(/no row is frozen/),
  ]);
});

test('another configuration is not overwritten, the same one is', async () => {
  await writeCheckpoint(path, randomCartridge(16), OPTIONS);
  await writeCheckpoint(path, randomCartridge(16, 1, 2), OPTIONS);
  writeFileSync(join(folder, 'config.yaml'), 'mine: 1\n');
  const before = readFileSync(path);
  await expect(writeCheckpoint(path, randomCartridge(16), OPTIONS)).rejects.toMatchObject({ code: 'INVALID_OPTION' });
  expect(readFileSync(path)).toEqual(before);
});

test('numbers that are not finite are not written', async () => {
  const cartridge = randomCartridge(16);
  cartridge.values[1]![3] = Number.NaN;
  await expect(writeCheckpoint(path, cartridge, OPTIONS)).rejects.toMatchObject({ code: 'INVALID_CARTRIDGE' });
});

function withArchitecture(cartridge: Cartridge, architecture: string): Cartridge {
  return { ...cartridge, model: { ...cartridge.model, architecture } };
}
