import type { Usage } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import type { TopLogprobs } from '../core/sparse-logprobs.js';
import type { Tokenizer } from '../core/tokenizer.js';
import { Speculation } from './drafting/speculation.js';
import type { GrammarFactory } from './grammar/grammar-constraint.js';
import { RepetitionWatch } from './repetition.js';
import type { Completion, FinishReason, GeneratedToken, GenerationRequest, Timings } from './requests.js';
import { type CartridgeRows, FINISHED, type RuledTokens, type SequenceWork } from './sequence-work.js';
import { TextStream } from './text-stream.js';
import { chooseToken, type TokenChoice } from './token-choice.js';
import { TokenChooser } from './token-chooser.js';
import type { TopCandidates } from './top-logprobs.js';

/** What becomes of a generation; exactly one of `end` and `fail` is called, and nothing after it. */
export interface GenerationListener {
  token?(generated: GeneratedToken): void;
  end(completion: Completion): void;
  fail(error: CartridgesError): void;
}

/** What all generations of an engine share. */
export interface GenerationTools {
  tokenizer: Tokenizer;
  /** Working memory. */
  candidates: TopCandidates;
  grammars: GrammarFactory;
}

/** A request as the scheduler's work: chooses tokens, keeps log-probs, makes text and knows when to stop. */
export class Generation implements SequenceWork {
  readonly tokens: Int32Array;
  readonly firstLogitsRow: number;
  readonly newRows: number;
  readonly sharedTokens: number;
  readonly scope: string;
  readonly cartridges: readonly CartridgeRows[];
  readonly draft: SequenceWork['draft'];

  readonly #request: GenerationRequest;
  readonly #tokenizer: Tokenizer;
  readonly #candidates: TopCandidates;
  readonly #listener: GenerationListener;
  readonly #chooser: TokenChooser;
  readonly #speculation: Speculation | undefined;
  readonly #repetition: RepetitionWatch | undefined;
  /** Called when it is over, whatever comes of it. */
  onRelease: (() => void) | undefined;
  readonly #stream: TextStream;
  readonly #newTokens: number[] = [];
  readonly #logprobs: number[] = [];
  readonly #topLogprobs: TopLogprobs[] = [];
  readonly #clock = new Stopwatch();
  #text = '';
  #cachedTokens = 0;
  #abandoned = false;

  /** Throws `INVALID_OPTION`, and `INVALID_INPUT` for a grammar. */
  constructor(request: GenerationRequest, tools: GenerationTools, listener: GenerationListener) {
    this.#request = request;
    this.#tokenizer = tools.tokenizer;
    this.#candidates = tools.candidates;
    this.#listener = listener;
    this.#stream = new TextStream(request.stop);
    this.tokens = request.prompt;
    this.firstLogitsRow = request.prompt.length - 1;
    // The last token is never read, so it needs no row.
    this.newRows = request.maxTokens - 1;
    this.sharedTokens = Math.min(request.sharedPrefixTokens ?? 0, this.firstLogitsRow);
    this.scope = request.scope ?? '';
    this.cartridges = request.cartridges ?? [];
    this.#chooser = new TokenChooser(request, tools.grammars);
    const { draft, prompt, maxTokens } = request;
    if (request.endRepetition) this.#repetition = new RepetitionWatch();
    if (draft && this.#chooser.isGreedy) {
      const speculation = new Speculation(draft, prompt, maxTokens);
      this.#speculation = speculation;
      this.draft = (room, rowCost) => speculation.draft(room, rowCost);
    }
  }

  get cancelled(): boolean {
    return this.#abandoned || (this.#request.signal?.aborted ?? false);
  }

  /** Nobody waits for the rest. */
  abandon(): void {
    this.#abandoned = true;
  }

  begin(cachedTokens: number): void {
    this.#cachedTokens = cachedTokens;
    this.#clock.begin();
  }

  consume(logits: Float32Array): number {
    this.#clock.tick();
    return this.#take(chooseToken(logits, this.#chooser, this.#request.topLogprobs, this.#candidates));
  }

  get ruled(): RuledTokens | undefined {
    const rule = this.#chooser.rule;
    if (!rule) return undefined;
    return {
      rule: { ...rule, topLogprobs: this.#request.topLogprobs },
      stopsAtEnd: !this.#request.ignoreEndOfGeneration,
      take: (choice) => this.#takeRuled(choice),
    };
  }

  fail(error: CartridgesError): void {
    this.release();
    this.#listener.fail(error);
  }

  /** Lets go of what it holds outside of the scheduler. */
  release(): void {
    this.#chooser.dispose();
    this.onRelease?.();
  }

  #takeRuled(choice: TokenChoice | undefined): number {
    this.#clock.tick();
    this.#chooser.passOver();
    return this.#take(choice);
  }

  #take(choice: TokenChoice | undefined): number {
    if (!choice) throw notFinite();
    const { token, logprob, topLogprobs } = choice;
    const generated: GeneratedToken = { ...choice, text: '' };
    this.#newTokens.push(token);
    this.#speculation?.note(token);
    if (logprob !== undefined) this.#logprobs.push(logprob);
    if (topLogprobs) this.#topLogprobs.push(topLogprobs);
    const isEnd = !this.#request.ignoreEndOfGeneration && this.#tokenizer.isEndOfGeneration(token);
    if (!isEnd) generated.text = this.#stream.push(this.#tokenizer.tokenBytes(token));
    const finishReason = this.#finishReason(isEnd, this.#repetition?.note(token) ?? false);
    if (finishReason && !this.#stream.stopped) generated.text += this.#stream.end();
    this.#text += generated.text;
    if (!finishReason) {
      this.#listener.token?.(generated);
      return token;
    }
    this.release();
    this.#listener.token?.({ ...generated, finishReason, usage: this.#usage() });
    this.#listener.end(this.#completion(finishReason));
    return FINISHED;
  }

  #finishReason(isEnd: boolean, repeats: boolean): FinishReason | undefined {
    if (isEnd || this.#stream.stopped) return 'stop';
    return repeats || this.#newTokens.length === this.#request.maxTokens ? 'length' : undefined;
  }

  #completion(finishReason: FinishReason): Completion {
    return {
      tokens: Int32Array.from(this.#newTokens),
      text: this.#text,
      finishReason,
      logprobs: Float32Array.from(this.#logprobs),
      topLogprobs: this.#topLogprobs,
      usage: this.#usage(),
      timings: this.#clock.timings(this.#newTokens.length),
    };
  }

  #usage(): Usage {
    return {
      promptTokens: this.tokens.length,
      completionTokens: this.#newTokens.length,
      cachedPromptTokens: this.#cachedTokens,
    };
  }
}

class Stopwatch {
  readonly #submitted = performance.now();
  #begun = 0;
  #first = 0;
  #last = 0;

  begin(): void {
    this.#begun = performance.now();
  }

  /** A new token is there. */
  tick(): void {
    this.#last = performance.now();
    this.#first ||= this.#last;
  }

  timings(tokens: number): Timings {
    const decodeMs = this.#last - this.#first;
    return {
      timeToFirstTokenMs: this.#first - this.#submitted,
      promptMs: this.#first - this.#begun,
      decodeMs,
      decodeTokensPerSecond: decodeMs > 0 ? ((tokens - 1) * 1000) / decodeMs : 0,
    };
  }
}

function notFinite(): CartridgesError {
  return new CartridgesError('ENGINE_FAILURE', "the model's output is not a finite number", {
    hint: 'the model file or the cartridge is damaged',
  });
}
