/**
 * Makes a cartridge stage by stage and measures it, on the model and a text that come with the package: self-study, training,
 * writing, evaluation. `buildCartridge` does the first three in one call; see library.ts.
 *
 * It leaves `stages.cartridge.safetensors` in the current folder, and its conversations and metrics in `runs/`. The settings are
 * small, so that it shows the calls in little time; the cartridge does not answer well. Leave `conversations` and `steps` out for
 * one that does: `npx tsx examples/stages.ts [--conversations N] [--steps N] [--threads N]`
 */

import { join } from 'node:path';
import { parseArgs } from 'node:util';
// In a project of your own: from 'cartridges'.
import {
  evaluateCartridge,
  formatReport,
  loadCorpus,
  ModelSession,
  type ProgressEvent,
  readQuestions,
  resolveSettings,
  synthesizeDataset,
  trainCartridge,
  writeCartridge,
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
const output = 'stages.cartridge.safetensors';
// A folder continues the settings that it was made with and refuses others, so each choice has its own.
const folder = join('runs', `stages-${flags.conversations}-${flags.steps}`);

// Every long call takes a listener for progress and an AbortSignal.
const run = { onProgress: report, signal: interruptSignal() };

const session = await ModelSession.open({ model: 'pocket', threads }, run);
try {
  const corpus = await loadCorpus(source, session.tokenizer, run);
  const settings = resolveSettings({
    synthesis: { conversations: Number(flags.conversations) },
    training: { steps: Number(flags.steps) },
  });

  // Self-study: the model asks itself about the text and answers. What an interrupted run has made is taken over.
  const dataset = join(folder, 'dataset');
  const { kept, attempted } = await synthesizeDataset({ session, corpus, settings, folder: dataset, ...run });
  console.log(`${dataset}: ${kept} of ${attempted} conversations`);

  // Training: with `resume` it goes on from the checkpoint of an interrupted run, where there is one.
  const training = { session, corpus, settings, dataset, folder: join(folder, 'training'), resume: true };
  const trained = await trainCartridge({ ...training, ...run });
  const { cartridge } = trained;

  await writeCartridge(output, cartridge, { dtype: settings.cartridgeType });
  // Only now: until the file is written, the checkpoint is all that there is of the training.
  await trained.discardCheckpoint();
  console.log(`${output}: ${cartridge.tokenCount} rows for ${corpus.tokens} tokens\n`);

  // Evaluation: the same questions without the text, with it, with it cut to the cartridge's size, and with the cartridge.
  const { maxTokens } = settings.evaluation;
  const sets = {
    questions: await readQuestions(join(source, 'questions.jsonl')),
    unanswerable: await readQuestions(join(source, 'unanswerable.jsonl'), { unanswerable: true }),
  };
  const evaluation = await evaluateCartridge({ session, cartridge, cartridgePath: output, corpus, sets, maxTokens, ...run });
  process.stdout.write(formatReport(evaluation.report));
} finally {
  await session.dispose();
}

/** One line on stderr for each stage that is finished. */
function report(event: ProgressEvent): void {
  if (event.kind === 'end') console.error(`${event.stage}: ${event.message} (${event.seconds.toFixed(1)} s)`);
  if (event.kind === 'warning') console.error(`${event.stage}: warning: ${event.message}`);
}

/** Aborted by Ctrl-C: the same command continues later with what is finished. */
function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  process.once('SIGINT', () => controller.abort());
  return controller.signal;
}
