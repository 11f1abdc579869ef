/** Seconds of each stage of the quickstart. `npm run bench -- quickstart [--json]` */

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { quickstart } from '../src/pipeline/quickstart.js';
import { resolveSettings } from '../src/pipeline/resolve-settings.js';
import { describeMachine } from './support/machine.js';
import { printReport, progress } from './support/report.js';

const { values: options } = parseArgs({ options: { json: { type: 'boolean', default: false } } });
const folder = await mkdtemp(join(tmpdir(), 'quickstart-bench-'));
const report = await quickstart({
  settings: resolveSettings(),
  output: join(folder, 'bench.cartridge.safetensors'),
  onProgress: (event) => {
    if (event.kind === 'end') progress(`${event.stage}: ${event.message}`);
  },
});
await rm(folder, { recursive: true });
const cases = Object.entries(report.seconds).map(([stage, seconds]) => ({
  case: stage,
  unit: 's',
  ours: seconds,
  rival: null,
  rivalName: 'none: no other program does this',
  ratio: null,
}));
const notes = [
  `accuracy of the cartridge ${report.conditions.cartridge.accuracy}, of the full text ${report.conditions.full.accuracy}`,
];
printReport({ name: 'quickstart', machine: describeMachine(), cases, notes }, options.json);
process.exit(0);
