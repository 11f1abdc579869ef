import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { runCommandLine } from '../main.js';

const folder = mkdtempSync(join(tmpdir(), 'cartridges-serve-command-'));
const damaged = join(folder, 'damaged.safetensors');
writeFileSync(damaged, 'no cartridge');
afterAll(() => rmSync(folder, { recursive: true }));

async function refusal(...flags: string[]) {
  let stderr = '';
  const status = await runCommandLine(
    ['serve', '--threads', '1', '--set', `serving.dataFolder=${join(folder, 'data')}`, ...flags],
    {
      stdout: { write: () => {} },
      stderr: { write: (piece) => (stderr += piece) },
    },
  );
  return { status, stderr };
}

test.each([
  [['--host', '0.0.0.0'], 2, /0\.0\.0\.0 can be reached from other machines[^\n]*\n +hint: make a key with cartridges keys add/],
  [['--host', '192.168.0.7'], 2, /no keys are asked for/],
  [['--keys', join(folder, 'missing.json')], 3, /missing\.json does not exist/],
  [['--keys', damaged], 3, /is no JSON/],
  [['--cartridge', 'notes'], 2, /--cartridge: serving\.cartridges cannot be/],
  [['--cartridge', `a=${damaged}`, '--cartridge', `a=${damaged}`], 2, /the name a is given to two cartridges/],
  [['--cartridge', `a=${join(folder, 'none')}`], 3, /does not exist/],
  [['--cartridge', `a=${damaged}`], 5, /damaged/],
  [['--port', '70000'], 2, /--port: serving\.port cannot be/],
  [['--max-requests', '0'], 2, /--max-requests/],
  [
    ['--context-tokens', '16'],
    2,
    /has no room for the largest cartridge with a usual request[^\n]*\n +hint: use --context-tokens \d+/,
  ],
  [['--context-tokens', '16000000'], 7, /the cache needs [^\n]*\n +hint: use --context-tokens/],
])('serve %j is refused with %i', async (flags, status, message) => {
  const refused = await refusal('--model', 'pocket', ...flags);
  expect(refused.stderr).toMatch(message);
  expect(refused.status).toBe(status);
});

test('a model has to be named', async () => {
  expect(await refusal()).toMatchObject({ status: 2, stderr: expect.stringContaining('no model is named') });
});

test('a port that is taken is refused, and what was opened is closed', async () => {
  const other = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => other.once('listening', resolve));
  const { port } = other.address() as AddressInfo;
  const refused = await refusal('--model', 'pocket', '--port', String(port));
  other.close();
  expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining('another program listens there') });
});
