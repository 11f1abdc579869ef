import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { GOLDEN_FOLDER } from '../../../test/support/golden.js';
import { readCartridge, readCartridgeHeader } from '../../cartridge/cartridge-file.js';
import { runCommandLine } from '../main.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-import-'));
process.env['CARTRIDGES_CACHE'] = join(folder, 'cache');
afterAll(() => rmSync(folder, { recursive: true }));

const output = join(folder, 'notes.cartridge.safetensors');
const MODEL = ['--model', join(GOLDEN_FOLDER, 'tiny-llama.gguf'), '--threads', '1'];

async function importFile(name: string, ...flags: string[]) {
  const text = { stdout: '', stderr: '' };
  const status = await runCommandLine(['import', join(GOLDEN_FOLDER, name), ...flags], {
    stdout: { write: (piece) => (text.stdout += piece) },
    stderr: { write: (piece) => (text.stderr += piece) },
  });
  return { status, ...text };
}

describe('cartridges import', () => {
  test('writes a cartridge of the model, its numbers as they are', async () => {
    const { status, stdout, stderr } = await importFile('upstream-frozen1.pt', '-o', output, ...MODEL, '--json');
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toEqual({ path: output, tokens: 8, frozen: 1, storedAs: 'bf16' });
    expect(stderr).toMatch(/convert: taken for a cartridge of .*tiny-llama\.gguf; the file does not say/);
    expect(await readCartridge(output)).toMatchObject({
      model: { architecture: 'llama', layers: 2, quantization: 'F32' },
      framing: { name: 'chatml' },
      tokenCount: 8,
      receipt: { initializer: 'imported', importedFrom: { name: 'upstream-frozen1.pt', storedAs: 'bf16' } },
    });
  });

  test('stores another type on request', async () => {
    const { stdout } = await importFile('upstream-fixed.pt', '-o', output, ...MODEL, '--type', 'f32');
    expect(stdout).toBe(`${output}: 8 rows, 2 of them frozen, f32\n`);
    expect((await readCartridgeHeader(output)).storedAs).toBe('f32');
  });

  const unwritten = join(folder, 'none.safetensors');
  test.each<[string, string, string[], number, RegExp]>([
    ['a file that would run a command', 'evil.pt', ['-o', unwritten, ...MODEL], 5, /wants to use "posix system"/],
    ['a file of another kind', 'tiny-llama.gguf', ['-o', unwritten, ...MODEL], 5, /it is no zip archive/],
    [
      'a model of other sizes',
      'upstream-lists.pt',
      ['-o', unwritten, '--model', 'pocket'],
      5,
      /the model 5 layers of 2 heads of 64/,
    ],
    ['a missing file', 'none.pt', ['-o', unwritten, ...MODEL], 3, /none\.pt does not exist/],
    [
      'an output of another name',
      'upstream-lists.pt',
      ['-o', join(folder, 'a.bin'), ...MODEL],
      2,
      /does not end in \.safetensors/,
    ],
    ['an unknown type', 'upstream-lists.pt', ['-o', unwritten, ...MODEL, '--type', 'q8'], 2, /'q8' is invalid/],
  ])('refuses %s and writes nothing', async (_what, name, flags, status, message) => {
    expect(await importFile(name, ...flags)).toMatchObject({ status, stdout: '', stderr: expect.stringMatching(message) });
    expect([unwritten, 'pwned'].filter(existsSync)).toEqual([]);
  });
});
