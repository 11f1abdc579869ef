import { CartridgesError } from '../../core/errors.js';
import type { RunOptions } from '../../core/progress.js';
import type { Random } from '../../core/random.js';
import type { Tokenizer } from '../../core/tokenizer.js';
import type { ChatFraming } from '../../models/chat-framing.js';
import type { FrozenModel } from '../../models/frozen-model.js';
import type { KeyValueRows } from '../../models/run-forward.js';
import { matchedRandomRows, normalRows } from './random-rows.js';
import { computeTextRows } from './text-rows.js';
import { UNRELATED_TEXT } from './unrelated-text.js';

/**
 * Where the rows of a new cartridge start.
 * `first-tokens`: the beginning of the corpus inside the system framing (the main setting of arXiv 2506.06266).
 * `sampled-chunks`: short pieces from all over the corpus, inside the framing.
 * `text`: a given text, or a built-in one that has nothing to do with the corpus.
 * `matched-random`: normal rows with the model's own mean and deviation. `random`: N(0, 1).
 * `cartridge`: the rows of an existing cartridge.
 */
export type InitializerName = 'first-tokens' | 'sampled-chunks' | 'text' | 'matched-random' | 'random' | 'cartridge';

export interface InitializerInput {
  name: InitializerName;
  model: FrozenModel;
  framing: ChatFraming;
  tokenizer: Tokenizer;
  corpusText: string;
  /** Rows that the cartridge will have, exactly. */
  tokenCount: number;
  random: Random;
  /** For `text`. */
  text?: string;
  /** For `cartridge`. */
  rows?: KeyValueRows;
}

/** Tokens of one piece that `sampled-chunks` takes. */
const SAMPLED_PIECE_TOKENS = 24;
/** Tokens from which `matched-random` takes its mean and deviation. */
const STATISTICS_TOKENS = 256;

/** Rows for a new cartridge, exactly `tokenCount` of them. Throws `INVALID_OPTION` when the input cannot give them. */
export async function initializeRows(input: InitializerInput, options: RunOptions = {}): Promise<KeyValueRows> {
  const { model, tokenCount, random, corpusText } = input;
  switch (input.name) {
    case 'first-tokens':
      return rowsOfFramedText(input, corpusText, tokenCount, options);
    case 'sampled-chunks':
      return rowsOfFramedText(input, sampleText(input), tokenCount, options);
    case 'text':
      return rowsOfFramedText(input, input.text ?? UNRELATED_TEXT, tokenCount, options);
    case 'matched-random':
      return matchedRandomRows(
        model.config,
        await rowsOfFramedText(input, corpusText, STATISTICS_TOKENS, options),
        tokenCount,
        random,
      );
    case 'random':
      return normalRows(model.config, tokenCount, random);
    case 'cartridge':
      return rowsOfCartridge(input);
  }
}

async function rowsOfFramedText(
  input: InitializerInput,
  text: string,
  tokenCount: number,
  options: RunOptions,
): Promise<KeyValueRows> {
  if (text.trim() === '') throw new CartridgesError('INVALID_OPTION', 'the text of the initializer is empty');
  // A text that is too short is told again: the number of rows is a promise.
  let repeated = text;
  let tokens = input.framing.encodeSystemPrefix(repeated, tokenCount);
  while (tokens.length < tokenCount) {
    repeated += `\n\n${repeated}`;
    tokens = input.framing.encodeSystemPrefix(repeated, tokenCount);
  }
  return computeTextRows(input.model, tokens, options);
}

/** Pieces at even distances, together a little longer than needed: the framing cuts what is too much. */
function sampleText({ tokenizer, corpusText, tokenCount }: InitializerInput): string {
  const tokens = tokenizer.encode(corpusText);
  if (tokens.length <= tokenCount) return corpusText;
  const pieces = Math.ceil(tokenCount / SAMPLED_PIECE_TOKENS);
  const distance = (tokens.length - SAMPLED_PIECE_TOKENS) / Math.max(1, pieces - 1);
  return Array.from({ length: pieces }, (_, index) => {
    const start = Math.round(index * distance);
    return tokenizer.decode(tokens.subarray(start, start + SAMPLED_PIECE_TOKENS)).trim();
  }).join('\n');
}

function rowsOfCartridge({ rows, tokenCount, model }: InitializerInput): KeyValueRows {
  const rowValues = model.config.kvHeads * model.config.headDimension;
  checkAvailableRows((rows?.keys[0]?.length ?? 0) / rowValues, tokenCount);
  const first = (list: Float32Array[]) => list.map((layer) => layer.slice(0, tokenCount * rowValues));
  return { keys: first(rows!.keys), values: first(rows!.values) };
}

/** Throws `INVALID_OPTION` when a cartridge is too small for another one to start from. */
export function checkAvailableRows(available: number, tokenCount: number): void {
  if (available >= tokenCount) return;
  throw new CartridgesError('INVALID_OPTION', `the initializer's cartridge has ${available} rows, ${tokenCount} are needed`, {
    hint: `use --tokens ${available} or fewer`,
  });
}
