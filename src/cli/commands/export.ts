import { basename, dirname, resolve } from 'node:path';
import { type Command, Option } from '@commander-js/extra-typings';
import type { FloatType } from '../../cartridge/float-conversion.js';
import { withSettingsOptions } from '../options.js';
import { type CommandContext, runCommand } from '../run-command.js';
import type { Terminal } from '../terminal.js';
import { withSession } from '../with-session.js';

const FORMATS = ['pt', 'llama-state', 'upstream-dataset'] as const;
const CACHE_TYPES: readonly FloatType[] = ['f16', 'bf16', 'f32'];
const DEFAULT_QUESTION = 'What does the text say?';
/** Where `llama-server` listens unless it is told otherwise. */
const SERVER = 'http://127.0.0.1:8080';
const SLOT = 0;
const ANSWER_TOKENS = 256;

interface SlotFlags {
  output: string;
  kvType: FloatType;
  flashAttention: boolean;
  question: string;
  allowQuantization?: true | undefined;
}

interface PostedRequest {
  path: string;
  body: unknown;
}

/** A slot file, how the server must be started for it, and what to send. */
interface SlotExport {
  path: string;
  tokens: number;
  server: string[];
  restore: PostedRequest;
  completion: PostedRequest;
}

/** `cartridges export SOURCE --to FORMAT -o FILE`: a cartridge or a dataset for the Python project, or a cartridge for llama.cpp's server. */
export function addExportCommand(program: Command, terminal: Terminal): void {
  withSettingsOptions(
    program
      .command('export')
      .description('write a cartridge or a dataset for another program')
      .argument('<source>', 'cartridge file; with upstream-dataset a dataset')
      .addOption(
        new Option(
          '--to <format>',
          'pt: the Python project and Tokasaurus; llama-state: llama-server, needs --model; upstream-dataset: conversations for the Python project',
        )
          .choices(FORMATS)
          .makeOptionMandatory(),
      )
      .requiredOption('-o, --output <file>', 'file to write; with pt a config.yaml beside it')
      .option('--base-model <name>', 'pt: name of the weights for config.yaml', 'unknown')
      .addOption(
        new Option('--kv-type <type>', "llama-state: type of the server's cache, its -ctk and -ctv")
          .choices(CACHE_TYPES)
          .default('f16' as FloatType),
      )
      .option('--no-flash-attention', 'llama-state: for a server with -fa off')
      .option('--question <text>', 'llama-state: what the printed request asks', DEFAULT_QUESTION)
      .option('--allow-quantization', 'take a cartridge of another quantisation of the same model'),
  ).action((source, flags, command) =>
    runCommand(terminal, command, (context) => {
      if (flags.to === 'pt') return exportCheckpoint(source, flags.output, flags.baseModel, context);
      if (flags.to === 'upstream-dataset') return exportDataset(source, flags.output, context);
      return exportSlot(source, flags, context);
    }),
  );
}

async function exportDataset(source: string, path: string, { output, run }: CommandContext): Promise<void> {
  const { openDataset } = await import('../../self-study/dataset/open-dataset.js');
  const { writeUpstreamDataset } = await import('../../self-study/dataset/write-upstream.js');
  const conversations = await writeUpstreamDataset(path, await openDataset(source, run.signal), run.signal);
  output.result({ path, conversations }, () => `${path}: ${conversations} conversations`);
}

async function exportCheckpoint(file: string, path: string, baseModel: string, { output, run }: CommandContext): Promise<void> {
  const { readCartridge } = await import('../../cartridge/cartridge-file.js');
  const { writeCheckpoint } = await import('../../cartridge/converters/write-checkpoint.js');
  const cartridge = await readCartridge(file);
  const { configPath, warnings } = await writeCheckpoint(path, cartridge, { baseModel });
  for (const message of warnings) run.onProgress({ kind: 'warning', stage: 'convert', message });
  const { tokenCount, frozenCount } = cartridge;
  const result = { path, configPath, tokens: tokenCount, frozen: frozenCount, warnings };
  output.result(result, () => `${path} and ${configPath}: ${tokenCount} rows, ${frozenCount} of them frozen`);
}

async function exportSlot(file: string, flags: SlotFlags, { output, settings, run }: CommandContext): Promise<void> {
  const { output: path, kvType, flashAttention, question, allowQuantization = false } = flags;
  await withSession(await settings(), run, async (session) => {
    const { openCartridge } = await import('../../pipeline/open-cartridge.js');
    const { writeSlotFile } = await import('../../cartridge/converters/slot-file.js');
    const { cartridge } = await openCartridge(file, session, { allowQuantization });
    const cache = { keyType: kvType, valueType: kvType, valuesTransposed: !flashAttention };
    const rows = await writeSlotFile(path, cartridge, cache, session.tokenizer.vocabularySize);
    const messages = [{ role: 'user' as const, content: question }];
    const turns = session.framing.encodeTurns(messages, { addGenerationPrompt: true, bos: false });
    const prompt = [...rows, ...turns];
    const result: SlotExport = {
      path,
      tokens: rows.length,
      server: serverFlags(session.path, path, flags),
      restore: { path: `/slots/${SLOT}?action=restore`, body: { filename: basename(path) } },
      completion: {
        path: '/completion',
        body: { prompt, id_slot: SLOT, cache_prompt: true, n_predict: ANSWER_TOKENS, temperature: 0 },
      },
    };
    output.result(result, () => describeSlot(result));
  });
}

/** The cache must be laid out as the file is; and a server that puts idle slots away would not find the rows again. */
function serverFlags(model: string, path: string, { kvType, flashAttention }: SlotFlags): string[] {
  const cache = ['-ctk', kvType, '-ctv', kvType, '-fa', flashAttention ? 'on' : 'off'];
  return ['-m', resolve(model), '--slot-save-path', dirname(resolve(path)), ...cache, '--no-cache-idle-slots'];
}

function describeSlot(result: SlotExport): string {
  return [
    `${result.path}: ${result.tokens} rows. Start the server so:`,
    ['llama-server', ...result.server].map(shellWord).join(' '),
    `Put the rows into slot ${SLOT}:`,
    curl(result.restore),
    `Ask. The first ${result.tokens} ids stand for the rows; timings.cache_n in the answer must be ${result.tokens} or more:`,
    curl(result.completion),
  ].join('\n');
}

function curl({ path, body }: PostedRequest): string {
  return ['curl', `${SERVER}${path}`, '-H', 'content-type: application/json', '-d', JSON.stringify(body)]
    .map(shellWord)
    .join(' ');
}

function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}
