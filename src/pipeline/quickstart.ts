import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../core/package.js';
import type { RunOptions } from '../core/progress.js';
import { readQuestions } from '../evaluation/questions.js';
import type { EvaluationReport } from '../evaluation/report.js';
import { type BuildResult, buildCartridge } from './build.js';
import { loadCorpus } from './corpus-source.js';
import { evaluateCartridge } from './evaluate.js';
import { ModelSession } from './model-session.js';
import type { Settings } from './settings.js';

export interface QuickstartOptions extends RunOptions {
  settings: Settings;
  /** A folder under `examples/corpora`. */
  corpus?: string;
  /** Where the cartridge is written. */
  output?: string;
}

export interface QuickstartReport extends EvaluationReport {
  build: BuildResult;
  /** Three questions with the cartridge's answers. */
  answers: { question: string; expected: string; reply: string; correct: boolean }[];
}

const DEFAULT_CORPUS = 'harbour';
const SHOWN_ANSWERS = 3;
/** Training ends in time for everything to take less than two minutes on two cores. */
const BUILD_MINUTES = 1.5;

/** The whole path on the pocket model and a sample text: self-study, training, evaluation, answers. Everything is measured. */
export async function quickstart(options: QuickstartOptions): Promise<QuickstartReport> {
  const run = {
    ...(options.onProgress && { onProgress: options.onProgress }),
    ...(options.signal && { signal: options.signal }),
  };
  const started = performance.now();
  const source = join(packageRoot, 'examples', 'corpora', options.corpus ?? DEFAULT_CORPUS);
  const settings = { ...options.settings, minutes: options.settings.minutes ?? BUILD_MINUTES };
  const output = options.output ?? 'quickstart.cartridge.safetensors';
  const session = await ModelSession.open({ model: 'pocket', device: settings.device, threads: settings.threads }, run);
  // The quickstart shows every stage each time it is called, so it keeps nothing to continue from.
  const workFolder = await mkdtemp(join(tmpdir(), 'cartridges-quickstart-'));
  try {
    const corpus = await loadCorpus(source, session.tokenizer, run);
    const buildSettings = { ...settings, outputFolder: workFolder };
    const build = await buildCartridge({ session, corpus, settings: buildSettings, output, startedAt: started, ...run });
    const evaluation = await evaluateCartridge({
      session,
      cartridge: build.cartridge,
      cartridgePath: output,
      corpus,
      sets: await readQuestionSets(source),
      maxTokens: settings.evaluation.maxTokens,
      ...run,
    });
    const { seconds, ...report } = evaluation.report;
    const { total: evaluate } = seconds;
    return {
      ...report,
      seconds: { ...build.result.seconds, evaluate, total: (performance.now() - started) / 1000 },
      build: build.result,
      answers: shownAnswers(evaluation.results.cartridge.questions.rows),
    };
  } finally {
    await session.dispose();
    await rm(workFolder, { recursive: true, force: true });
  }
}

async function readQuestionSets(folder: string) {
  return {
    questions: await readQuestions(join(folder, 'questions.jsonl')),
    unanswerable: await readQuestions(join(folder, 'unanswerable.jsonl'), { unanswerable: true }),
    general: await readQuestions(join(folder, 'general.jsonl')),
  };
}

/** Questions spread over the file, as they come: right or wrong. */
function shownAnswers(
  rows: readonly { question: { question: string; answer?: string | null }; reply: string; correct: boolean }[],
) {
  const distance = Math.max(1, Math.floor(rows.length / SHOWN_ANSWERS));
  return Array.from({ length: Math.min(SHOWN_ANSWERS, rows.length) }, (_, index) => {
    const { question, reply, correct } = rows[index * distance]!;
    return { question: question.question, expected: question.answer ?? '', reply, correct };
  });
}
