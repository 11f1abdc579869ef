/**
 * Builds a cartridge with the library and asks it a question, on the model and a text that come with the package.
 *
 * The settings are small, so that it shows the calls in little time; its answers are not good. Leave `conversations` and
 * `steps` out for a cartridge that answers: `npx tsx examples/library.ts [--conversations N] [--steps N] [--threads N]`
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
// In a project of your own: from 'cartridges'.
import {
  buildCartridge,
  ChatSession,
  loadCorpus,
  ModelSession,
  openCartridge,
  type ProgressEvent,
  resolveSettings,
} from '../src/index.js';

const { values: flags } = parseArgs({
  options: {
    conversations: { type: 'string', default: '96' },
    steps: { type: 'string', default: '40' },
    threads: { type: 'string', default: '0' },
  },
});
const threads = Number(flags.threads);
const source = join(import.meta.dirname, 'corpora', 'harbour');
const output = 'harbour.cartridge.safetensors';

// Every long call takes a listener for progress and an AbortSignal.
const run = { onProgress: report, signal: interruptSignal() };

const session = await ModelSession.open({ model: 'pocket', threads }, run);
try {
  const corpus = await loadCorpus(source, session.tokenizer, run);
  const settings = resolveSettings({
    synthesis: { conversations: Number(flags.conversations) },
    training: { steps: Number(flags.steps) },
  });
  const { result } = await buildCartridge({ session, corpus, settings, output, ...run });
  console.log(`${result.path}: ${result.tokens} rows for ${corpus.tokens} tokens`);

  // Reading checks the file, and that it belongs to this model.
  const { cartridge } = await openCartridge(output, session, { allowQuantization: false });
  const chat = await ChatSession.start({ session, cartridge, maxTokens: 32 });
  for await (const text of chat.ask('What colour is the flag of the Pouclal?')) process.stdout.write(text);
  console.log();
} finally {
  await session.dispose();
}

/** One line on stderr for each stage that is finished. */
function report(event: ProgressEvent): void {
  if (event.kind === 'end') console.error(`${event.stage}: ${event.message} (${event.seconds.toFixed(1)} s)`);
  if (event.kind === 'warning') console.error(`${event.stage}: warning: ${event.message}`);
}

/** Aborted by Ctrl-C: the same build continues later with what is finished. */
function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  return controller.signal;
}
