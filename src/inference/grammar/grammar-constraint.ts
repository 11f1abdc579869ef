import { CartridgesError } from '../../core/errors.js';
import type { LlamaTokenizer } from '../../models/tokenizer.js';
import type { Engine } from '../../native/engine.js';
import type { LlamaModel, LlamaSampler, LlamaVocabulary } from '../../native/handles.js';
import type { LlamaTokenDataArray } from '../../native/structs.js';
import { GrammarVocabulary } from './grammar-vocabulary.js';

const MAX_GRAMMAR_BYTES = 256 * 1024;
/** libllama parses parentheses by recursion: too many of them overflow its stack. */
const MAX_NESTING = 200;
const ROOT = 'root';

/** Makes grammars over the vocabulary of a model; they share their working memory. */
export class GrammarFactory {
  readonly #engine: Engine;
  readonly #vocabulary: GrammarVocabulary;
  readonly #handle: LlamaVocabulary;

  constructor(model: { engine: Engine; handle: LlamaModel; tokenizer: LlamaTokenizer }) {
    this.#engine = model.engine;
    this.#vocabulary = new GrammarVocabulary(model.tokenizer);
    this.#handle = model.engine.llama.llama_model_get_vocab(model.handle);
  }

  /** A grammar at its beginning. Throws `INVALID_INPUT` when it is too large or is none. */
  parse(grammar: string): GrammarConstraint {
    checkText(grammar);
    const { llama, log } = this.#engine;
    log.take();
    const sampler = llama.llama_sampler_init_grammar(this.#handle, grammar, ROOT);
    if (!sampler) throw new CartridgesError('INVALID_INPUT', `the grammar cannot be used: ${log.take()}`);
    return new GrammarConstraint(this.#engine, sampler, this.#vocabulary, outsideTexts(grammar).includes('<'));
  }
}

/** How far a generation is in its grammar. */
export class GrammarConstraint {
  readonly #engine: Engine;
  readonly #vocabulary: GrammarVocabulary;
  /** It may have `<token>`, which stands for a token and not for its text. */
  readonly #namesTokens: boolean;
  #sampler: LlamaSampler | undefined;

  constructor(engine: Engine, sampler: LlamaSampler, vocabulary: GrammarVocabulary, namesTokens: boolean) {
    this.#engine = engine;
    this.#sampler = sampler;
    this.#vocabulary = vocabulary;
    this.#namesTokens = namesTokens;
  }

  /** Whether a token may come next; one that ends the generation only where the grammar is complete. */
  allows(token: number): boolean {
    return this.#vocabulary.allows(token, this.#apply);
  }

  /** Sets the logits of all tokens that may not come next to −∞; returns what takes that back. */
  forbid(logits: Float32Array): () => void {
    const originals = logits.slice();
    const allowed = this.#vocabulary.allAllowed(this.#apply, this.#namesTokens);
    for (let token = 0; token < logits.length; token++) if (allowed[token] !== 1) logits[token] = Number.NEGATIVE_INFINITY;
    return () => logits.set(originals);
  }

  /** Goes on behind a token, which must be allowed: libllama ends the process for another one. */
  accept(token: number): void {
    if (this.#sampler) this.#engine.llama.llama_sampler_accept(this.#sampler, token);
  }

  dispose(): void {
    if (this.#sampler) this.#engine.llama.llama_sampler_free(this.#sampler);
    this.#sampler = undefined;
  }

  readonly #apply = (candidates: LlamaTokenDataArray): void => {
    if (this.#sampler) this.#engine.llama.llama_sampler_apply(this.#sampler, candidates);
  };
}

function checkText(grammar: string): void {
  // libllama takes an empty one for no grammar at all.
  if (grammar === '') throw new CartridgesError('INVALID_INPUT', 'the grammar is empty');
  const bytes = Buffer.byteLength(grammar);
  if (bytes > MAX_GRAMMAR_BYTES) {
    throw new CartridgesError('INVALID_INPUT', `the grammar has ${bytes} bytes, more than ${MAX_GRAMMAR_BYTES}`);
  }
  if (grammar.includes('\0')) throw new CartridgesError('INVALID_INPUT', 'the grammar holds a NUL character');
  if (nesting(grammar) > MAX_NESTING) {
    throw new CartridgesError('INVALID_INPUT', `the grammar nests its parentheses more than ${MAX_NESTING} deep`);
  }
}

/** How deep parentheses are nested at most, those in texts and character classes left out. */
function nesting(grammar: string): number {
  let [depth, deepest] = [0, 0];
  for (const character of outsideTexts(grammar)) {
    if (character === '(') deepest = Math.max(deepest, ++depth);
    if (character === ')') depth--;
  }
  return deepest;
}

/** A grammar without its texts, character classes and comments. */
function outsideTexts(grammar: string): string {
  return grammar.replace(/"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|#.*/g, '');
}
