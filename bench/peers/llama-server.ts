/**
 * Prints the path of a stock `llama-server`: the one that `CARTRIDGES_LLAMA_SERVER` or an earlier call left, else a new build.
 * `npx tsx bench/peers/llama-server.ts [--jobs N]`
 */

import { parseArgs } from 'node:util';
import { buildLlamaServer, findLlamaServer } from './llama-server-binary.js';

const { values: options } = parseArgs({ options: { jobs: { type: 'string' } } });
try {
  const path = findLlamaServer() ?? (await buildLlamaServer(options.jobs === undefined ? undefined : Number(options.jobs)));
  process.stdout.write(`${path}\n`);
} catch (error) {
  process.stderr.write(`error: ${(error as Error).message}\n`);
  process.exitCode = 1;
}
