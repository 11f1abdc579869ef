import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { writeCartridge } from '../../cartridge/cartridge-file.js';
import { runCommandLine } from '../main.js';

let folder: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'cartridges-inspect-'));
});

afterEach(() => rm(folder, { recursive: true, force: true }));

async function inspect(path: string, ...flags: string[]) {
  const text = { stdout: '', stderr: '' };
  const status = await runCommandLine(['inspect', path, ...flags], {
    stdout: { write: (piece) => (text.stdout += piece) },
    stderr: { write: (piece) => (text.stderr += piece) },
  });
  return { status, ...text };
}

async function sampleCartridge(): Promise<string> {
  const path = join(folder, 'sample.safetensors');
  const hash = 'ab'.repeat(32);
  const rows = () => [new Float32Array(4 * 2 * 8)];
  const model = {
    architecture: 'llama',
    layers: 1,
    kvHeads: 2,
    headDimension: 8,
    embedding: 16,
    vocabularySize: 100,
    tokenizerHash: hash,
    ropeBase: 10_000,
    ropeScalingHash: hash,
    quantization: 'Q8_0',
    weightsHash: hash,
  };
  const receipt = { createdBy: 'test', createdAt: '2030-01-01', initializer: 'text', note: 'red \u001b[31m', steps: 7 };
  const cartridge = {
    model,
    framing: { name: 'chatml', hash },
    tokenCount: 4,
    frozenCount: 1,
    keys: rows(),
    values: rows(),
    receipt,
  };
  await writeCartridge(path, cartridge, { dtype: 'f16' });
  return path;
}

describe('cartridges inspect', () => {
  it('shows the header as lines and as JSON', async () => {
    const path = await sampleCartridge();
    const { status, stdout } = await inspect(path);
    expect(status).toBe(0);
    expect(stdout).toMatch(/^tokens +4, the first 1 not trained$/m);
    expect(stdout).toMatch(/^model +llama Q8_0, weights abababababab$/m);
    expect(stdout).toMatch(/^steps +7$/m);
    expect(stdout).not.toContain('\u001b');
    expect(JSON.parse((await inspect(path, '--json')).stdout)).toMatchObject({
      path,
      tokenCount: 4,
      storedAs: 'f16',
      receipt: { steps: 7 },
    });
  });

  it('refuses what is not there and what is not a cartridge', async () => {
    expect(await inspect(join(folder, 'none'))).toMatchObject({ status: 3, stdout: '' });
    const path = join(folder, 'text');
    await writeFile(path, 'plain text');
    expect(await inspect(path)).toMatchObject({ status: 5, stdout: '', stderr: expect.stringContaining('error:') });
  });
});
