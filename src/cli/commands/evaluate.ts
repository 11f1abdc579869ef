import { join } from 'node:path';
import type { Command } from '@commander-js/extra-typings';
import type { Cartridge } from '../../cartridge/cartridge.js';
import { CartridgesError } from '../../core/errors.js';
import { assertWritable } from '../../core/files.js';
import type { RunOptions } from '../../core/progress.js';
import { SettingOption, withSettingsOptions } from '../options.js';
import { runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';
import { withSession } from '../with-session.js';

/** `cartridges evaluate`: the same questions without the text, with it, with it cut, and with the cartridge. */
export function addEvaluateCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('evaluate')
      .description('measure a cartridge beside the full text, the text cut to its size, and no text')
      .requiredOption('--cartridge <file>', 'cartridge file')
      .requiredOption('--corpus <source>', 'the text that the cartridge stands for')
      .addOption(new SettingOption('--questions <file>', 'evaluation.questions', 'JSONL: questions about the text'))
      .addOption(
        new SettingOption('--unanswerable <file>', 'evaluation.unanswerable', 'JSONL: questions that the text does not answer'),
      )
      .addOption(new SettingOption('--general <file>', 'evaluation.general', 'JSONL: questions that need no text'))
      .addOption(
        new SettingOption(
          '--conversations <dataset>',
          'evaluation.conversations',
          'dataset of conversations that training did not see',
        ),
      )
      .addOption(new SettingOption('--max-tokens <n>', 'evaluation.maxTokens', 'longest answer'))
      .option('--report <folder>', 'write report.json and answers.parquet there')
      .option('--allow-quantization', 'take a cartridge of another quantisation of the same model'),
  ).action(({ cartridge: path, corpus: source, report: folder, allowQuantization = false }, command) =>
    runCommand(terminal, command, async ({ output, settings: resolve, run }) => {
      const settings = await resolve();
      const { questions, unanswerable, general, conversations, maxTokens } = settings.evaluation;
      if (questions === undefined && conversations === undefined) {
        throw new CartridgesError('INVALID_OPTION', 'nothing to measure with is named', {
          hint: 'add --questions FILE.jsonl, or --conversations DATASET',
        });
      }
      const { readQuestions } = await import('../../evaluation/questions.js');
      const sets = {
        questions: questions === undefined ? [] : await readQuestions(questions),
        ...(unanswerable !== undefined && { unanswerable: await readQuestions(unanswerable, { unanswerable: true }) }),
        ...(general !== undefined && { general: await readQuestions(general) }),
      };
      const held = conversations === undefined ? undefined : await openConversations(conversations, run);
      if (folder !== undefined) await assertWritable(join(folder, 'report.json'));
      await withSession(settings, run, async (session) => {
        const { loadCorpus } = await import('../../pipeline/corpus-source.js');
        const { openCartridge } = await import('../../pipeline/open-cartridge.js');
        const { evaluateCartridge } = await import('../../pipeline/evaluate.js');
        const { formatReport, writeReport } = await import('../../evaluation/report.js');
        const { cartridge, quantizationDiffers } = await openCartridge(path, session, { allowQuantization });
        if (held) checkHeldOut(cartridge, held.contentHash, run);
        const corpus = await loadCorpus(source, session.tokenizer, run);
        const { report, answers } = await evaluateCartridge({
          session,
          cartridge,
          cartridgePath: path,
          quantizationDiffers,
          corpus,
          sets: { ...sets, ...(held && { conversations: held.conversations }) },
          maxTokens,
          ...run,
        });
        // A report that cannot be written must not cost the evaluation.
        output.result(report, () => formatReport(report));
        if (folder !== undefined) await writeReport(folder, report, answers);
      });
    }),
  );
}

async function openConversations(path: string, run: Required<RunOptions>) {
  const { loadConversations, openDataset } = await import('../../self-study/dataset/open-dataset.js');
  const dataset = await openDataset(path, run.signal);
  return { contentHash: dataset.contentHash, conversations: await loadConversations(dataset, run.signal) };
}

/** Warns when the cartridge learnt from the very conversations that shall measure it. */
function checkHeldOut(cartridge: Cartridge, contentHash: string, { onProgress }: Required<RunOptions>): void {
  const { dataset } = cartridge.receipt as { dataset?: { contentHash?: unknown } };
  if (dataset?.contentHash !== contentHash) return;
  const message =
    'the cartridge was trained on these conversations: synthesize others with another --seed to measure what it learnt';
  onProgress({ kind: 'warning', stage: 'evaluate', message });
}
