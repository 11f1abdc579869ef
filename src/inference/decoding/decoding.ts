import type { LlamaContext, LlamaVocabulary } from '../../native/handles.js';
import { viewMemory } from '../../native/koffi.js';
import type { Llama } from '../../native/llama.js';
import type { LlamaBatch } from '../../native/structs.js';
import { Sampler } from '../sampler.js';
import { chooseToken } from '../token-choice.js';
import type { TopCandidates } from '../top-logprobs.js';
import type { ChoiceHelpers } from './choice-helpers.js';
import { isShared } from './choice-task.js';
import type { Decoded, DecodedContext, RowRule } from './decode-requests.js';
import { LogitsViews } from './logits-views.js';

export type DecodeFunctions = Pick<Llama, 'llama_decode' | 'llama_synchronize' | 'llama_get_logits_ith' | 'llama_vocab_is_eog'>;

/** What the decodes of all contexts choose tokens with. */
export interface Choosing {
  /** Working memory. */
  candidates: TopCandidates;
  /** Other threads, once they were worth while. */
  helpers: ChoiceHelpers | undefined;
}

/** A row of a batch whose next token is chosen here, and how; the sampler is where the row's draws are. */
interface ChosenRow extends RowRule {
  sampler: Sampler;
}

/** The decodes of one context on the decode thread: a batch, and others that follow from the tokens that were chosen behind it. */
export class Decoding {
  readonly #llama: DecodeFunctions;
  readonly #context: LlamaContext;
  readonly #vocabulary: LlamaVocabulary;
  readonly #choosing: Choosing;
  readonly #logits: LogitsViews;
  readonly #withdrawal: Int32Array;
  #batch: LlamaBatch | undefined;
  /** The batch's own memory, once something is put into it. */
  #batchRows: { tokens: Int32Array; positions: Int32Array } | undefined;
  #rows: readonly ChosenRow[] = [];
  #last: Decoded | undefined;

  constructor(llama: DecodeFunctions, decoded: DecodedContext, choosing: Choosing) {
    const { context, vocabulary, vocabularySize, withdrawal } = decoded;
    this.#llama = llama;
    this.#context = context;
    this.#vocabulary = vocabulary;
    this.#choosing = choosing;
    this.#logits = new LogitsViews(llama, context, vocabularySize);
    this.#withdrawal = withdrawal;
  }

  decode(batch: LlamaBatch, rules: readonly RowRule[]): Decoded {
    this.#batch = batch;
    this.#batchRows = undefined;
    this.#rows = rules.map((each) => ({ ...each, sampler: new Sampler(each.rule.sampling, each.rule.random) }));
    return this.#decode(batch);
  }

  /** Computes the tokens that were chosen last, and those that are chosen then, at most so many times and while they are wanted. */
  decodeChosen(most: number): Decoded[] {
    const decoded: Decoded[] = [];
    while (decoded.length < most && this.#batch && this.#last?.status === 0 && Atomics.load(this.#withdrawal, 0) === 0) {
      const ended = this.#countEnded(this.#last.choices);
      // Others go on beside one that is over, but no further than until somebody has seen it.
      if (ended === this.#rows.length || (ended > 0 && decoded.length > 0)) break;
      this.#putChosen(this.#batch, this.#last.choices);
      decoded.push(this.#decode(this.#batch));
    }
    return decoded;
  }

  /** Requests that are over because their turn has ended. */
  #countEnded(choices: Decoded['choices']): number {
    const ended = this.#rows.filter(({ stopsAtEnd }, index) => {
      const token = choices[index]?.token;
      return stopsAtEnd && token !== undefined && this.#llama.llama_vocab_is_eog(this.#vocabulary, token);
    });
    return ended.length;
  }

  #decode(batch: LlamaBatch): Decoded {
    this.#last = undefined;
    const started = performance.now();
    const status = this.#llama.llama_decode(this.#context, batch);
    // A GPU may compute longer; whoever asks for logits first would wait for it.
    this.#llama.llama_synchronize(this.#context);
    const milliseconds = performance.now() - started;
    const decoded = { status, milliseconds, choices: status === 0 ? this.#choose() : [] };
    this.#last = decoded;
    return decoded;
  }

  #choose(): Decoded['choices'] {
    const { candidates, helpers } = this.#choosing;
    if (helpers && isShared(this.#rows.length, this.#logits.memory.vocabularySize)) return this.#chooseWith(helpers);
    return this.#rows.map(({ row, rule, sampler }) => {
      return chooseToken(this.#logits.at(row), sampler, rule.topLogprobs, candidates);
    });
  }

  #chooseWith(helpers: ChoiceHelpers): Decoded['choices'] {
    const rows = this.#rows.map(({ row, rule, sampler }) => {
      return { logits: this.#logits.addressOf(row), rule: { ...rule, random: sampler.random } };
    });
    const choices = helpers.choose(rows, this.#logits.memory);
    for (const { sampler } of this.#rows) sampler.passOver();
    return choices;
  }

  #putChosen(batch: LlamaBatch, choices: Decoded['choices']): void {
    this.#batchRows ??= viewRows(batch);
    const { tokens, positions } = this.#batchRows;
    for (const [index, { row }] of this.#rows.entries()) {
      // Behind logits that are not finite nobody takes what comes of it.
      tokens[row] = choices[index]?.token ?? 0;
      positions[row] = (positions[row] as number) + 1;
    }
  }
}

function viewRows({ n_tokens, token, pos }: LlamaBatch) {
  const view = (address: bigint) => new Int32Array(viewMemory(address, n_tokens * Int32Array.BYTES_PER_ELEMENT));
  return { tokens: view(token), positions: view(pos) };
}
