import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parquetMetadata } from 'hyparquet';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { GOLDEN_FOLDER } from '../../../test/support/golden.js';
import { parseCheckpoint } from '../../cartridge/converters/checkpoint-rows.js';
import { encodeNative } from '../../self-study/dataset/native-format.js';
import { loadConversations, openDataset } from '../../self-study/dataset/open-dataset.js';
import { runCommandLine } from '../main.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-export-'));
process.env['CARTRIDGES_CACHE'] = join(folder, 'cache');
process.env['CARTRIDGES_MODEL'] = '';
afterAll(() => rmSync(folder, { recursive: true }));

const ORIGINAL = join(GOLDEN_FOLDER, 'upstream-frozen1.pt');
const cartridge = join(folder, 'notes.cartridge.safetensors');
const MODEL = ['--model', join(GOLDEN_FOLDER, 'tiny-llama.gguf'), '--threads', '1'];

async function run(...commandLine: string[]) {
  const text = { stdout: '', stderr: '' };
  const status = await runCommandLine(commandLine, {
    stdout: { write: (piece) => (text.stdout += piece) },
    stderr: { write: (piece) => (text.stderr += piece) },
  });
  return { status, ...text };
}

beforeAll(async () => {
  expect(await run('import', ORIGINAL, '-o', cartridge, ...MODEL)).toMatchObject({ status: 0 });
});

describe('cartridges export --to pt', () => {
  const path = join(folder, 'pt', 'cartridge.pt');

  test('gives back what was imported, with its configuration, and says what speaks against it', async () => {
    const flags = ['--to', 'pt', '-o', path, '--base-model', 'org/tiny', '--json'];
    const { status, stdout, stderr } = await run('export', cartridge, ...flags);
    expect(status).toBe(0);
    const configPath = join(folder, 'pt', 'config.yaml');
    const warnings = [expect.stringMatching(/8 rows are not a multiple of 16/)];
    expect(JSON.parse(stdout)).toEqual({ path, configPath, tokens: 8, frozen: 1, warnings });
    expect(stderr).toMatch(/^convert: warning: 8 rows are not/m);
    expect(readFileSync(configPath, 'utf8')).toMatch(/max_tokens: 8\n.*"org\/tiny"\n$/s);
    expect(parseCheckpoint(readFileSync(path), path)).toEqual(parseCheckpoint(readFileSync(ORIGINAL), ORIGINAL));
  });
});

describe('cartridges export --to llama-state', () => {
  const path = join(folder, "it's here", 'notes.bin');
  const SLOT = ['export', cartridge, '--to', 'llama-state', '-o', path, ...MODEL];

  test('gives the two requests, and how the server must run', async () => {
    const { status, stdout } = await run(...SLOT, '--json', '--kv-type', 'f32', '--no-flash-attention', '--question', 'Who?');
    expect(status).toBe(0);
    const { server, restore, completion, ...rest } = JSON.parse(stdout);
    expect(rest).toEqual({ path, tokens: 8 });
    const cache = ['-ctk', 'f32', '-ctv', 'f32', '-fa', 'off', '--no-cache-idle-slots'];
    expect(server).toEqual(['-m', MODEL[1], '--slot-save-path', join(folder, "it's here"), ...cache]);
    expect(restore).toEqual({ path: '/slots/0?action=restore', body: { filename: 'notes.bin' } });
    const file = readFileSync(path);
    const rows = Array.from({ length: 8 }, (_, row) => file.readInt32LE(12 + 4 * row));
    expect(completion.path).toBe('/completion');
    expect(completion.body).toMatchObject({ id_slot: 0, cache_prompt: true });
    expect(completion.body.prompt.slice(0, 8)).toEqual(rows);
    // The turns begin with <|im_start|>.
    expect(completion.body.prompt[8]).toBe(1);
    expect(file.length).toBe(12 + 8 * 4 + 8 + 8 * 12 + 8 + 2 * 2 * (12 + 8 * 2 * 16 * 4));
  });

  test('prints them for a shell', async () => {
    const { stdout } = await run(...SLOT);
    const lines = stdout.split('\n');
    expect(lines.filter((line) => line.startsWith('llama-server -m '))).toEqual([
      expect.stringContaining("'\\''s here' -ctk f16 -ctv f16 -fa on --no-cache-idle-slots"),
    ]);
    const bodies = lines.filter((line) => line.startsWith('curl ')).map((line) => JSON.parse(/-d '(.*)'$/.exec(line)![1]!));
    expect(bodies).toEqual([{ filename: 'notes.bin' }, expect.objectContaining({ cache_prompt: true })]);
  });
});

describe('cartridges export --to upstream-dataset', () => {
  const source = join(GOLDEN_FOLDER, 'upstream-dataset.parquet');
  const path = join(folder, 'upstream', 'notes.parquet');
  const conversationsOf = async (file: string) => loadConversations(await openDataset(file));

  test('writes a dataset in the schema of the Python project', async () => {
    const native = join(folder, 'native.parquet');
    writeFileSync(native, encodeNative(await conversationsOf(source)));
    const { status, stdout } = await run('export', native, '--to', 'upstream-dataset', '-o', path, '--json');
    const expected = (await conversationsOf(source)).map(({ id: _, ...conversation }) => conversation);
    expect({ status, ...JSON.parse(stdout) }).toEqual({ status: 0, path, conversations: expected.length });
    const { buffer, byteOffset, length } = readFileSync(path);
    const file = buffer.slice(byteOffset, byteOffset + length);
    expect(parquetMetadata(file).schema.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['messages', 'top_logprobs', 'token_ids', 'system_prompt', 'type']),
    );
    const written = (await conversationsOf(path)).map(({ id: _, ...conversation }) => conversation);
    expect(written).toMatchObject(expected);
  });
});

describe('refuses', () => {
  const output = join(folder, 'none.bin');

  test.each<[string, string[], number, RegExp]>([
    ['a missing format', [cartridge, '-o', output], 2, /--to <format>' not specified/],
    ['an unknown format', [cartridge, '-o', output, '--to', 'gguf'], 2, /'gguf' is invalid/],
    ['an unknown cache type', [cartridge, '-o', output, '--to', 'llama-state', '--kv-type', 'q8_0'], 2, /'q8_0' is invalid/],
    ['a slot file without a model', [cartridge, '-o', output, '--to', 'llama-state'], 2, /no model is named/],
    ['another model', [cartridge, '-o', output, '--to', 'llama-state', '--model', 'pocket'], 5, /belongs to another model/],
    ['a file that is no cartridge', [ORIGINAL, '-o', output, '--to', 'pt'], 5, /not a usable/],
    ['a cartridge as dataset', [cartridge, '-o', output, '--to', 'upstream-dataset'], 3, /not a usable|Parquet/i],
    ['a folder as output', [cartridge, '-o', join(folder, 'folder'), '--to', 'pt'], 2, /is no regular file/],
  ])('%s', async (_what, commandLine, status, message) => {
    mkdirSync(join(folder, 'folder', 'inner'), { recursive: true });
    expect(await run('export', ...commandLine)).toMatchObject({ status, stdout: '', stderr: expect.stringMatching(message) });
    expect(existsSync(output)).toBe(false);
  });
});
