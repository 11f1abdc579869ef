import { CartridgesError } from '../../core/errors.js';
import type { LlamaTokenizer } from '../../models/tokenizer.js';
import type { Engine } from '../../native/engine.js';
import type { LlamaModel, LlamaSampler, LlamaVocabulary } from '../../native/handles.js';
import { type LlamaTokenDataArray, TOKEN_DATA_WORDS } from '../../native/structs.js';

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
    return new GrammarConstraint(this.#engine, sampler, this.#vocabulary);
  }
}

/** How far a generation is in its grammar. */
export class GrammarConstraint {
  readonly #engine: Engine;
  readonly #vocabulary: GrammarVocabulary;
  #sampler: LlamaSampler | undefined;

  constructor(engine: Engine, sampler: LlamaSampler, vocabulary: GrammarVocabulary) {
    this.#engine = engine;
    this.#sampler = sampler;
    this.#vocabulary = vocabulary;
  }

  /** Whether a token may come next; one that ends the generation only where the grammar is complete. */
  allows(token: number): boolean {
    this.#apply(this.#vocabulary.one(token));
    return !this.#vocabulary.isRefused(0) && this.#vocabulary.isVisible(token);
  }

  /** Sets the logits of all tokens that may not come next to −∞; returns what takes that back. */
  forbid(logits: Float32Array): () => void {
    const originals = logits.slice();
    this.#apply(this.#vocabulary.all());
    for (let token = 0; token < logits.length; token++) {
      const isAllowed = !this.#vocabulary.isRefused(token) && this.#vocabulary.isVisible(token);
      if (!isAllowed) logits[token] = Number.NEGATIVE_INFINITY;
    }
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

  #apply(candidates: LlamaTokenDataArray): void {
    if (this.#sampler) this.#engine.llama.llama_sampler_apply(this.#sampler, candidates);
  }
}

/** The tokens of a model as entries that libllama reads and changes. */
class GrammarVocabulary {
  readonly #tokenizer: LlamaTokenizer;
  readonly #bytes: Uint8Array;
  readonly #ids: Int32Array;
  readonly #logits: Float32Array;
  /** What is known of each token: nothing, that it is visible, that it is not. */
  readonly #visibility: Uint8Array;

  constructor(tokenizer: LlamaTokenizer) {
    const { vocabularySize } = tokenizer;
    this.#tokenizer = tokenizer;
    this.#bytes = new Uint8Array(vocabularySize * TOKEN_DATA_WORDS * 4);
    this.#ids = new Int32Array(this.#bytes.buffer);
    this.#logits = new Float32Array(this.#bytes.buffer);
    this.#visibility = new Uint8Array(vocabularySize);
  }

  /**
   * False for a token that has no text and does not end the generation: a grammar takes a control token for the characters of
   * its name, of which the text shows none.
   */
  isVisible(token: number): boolean {
    this.#visibility[token] ||= this.#hasText(token) ? 1 : 2;
    return this.#visibility[token] === 1;
  }

  one(token: number): LlamaTokenDataArray {
    this.#set(0, token);
    return this.#array(1);
  }

  all(): LlamaTokenDataArray {
    const { vocabularySize } = this.#tokenizer;
    for (let token = 0; token < vocabularySize; token++) this.#set(token, token);
    return this.#array(vocabularySize);
  }

  isRefused(index: number): boolean {
    return this.#logits[index * TOKEN_DATA_WORDS + 1] === Number.NEGATIVE_INFINITY;
  }

  #hasText(token: number): boolean {
    return this.#tokenizer.isEndOfGeneration(token) || this.#tokenizer.tokenBytes(token).length > 0;
  }

  #set(index: number, token: number): void {
    this.#ids[index * TOKEN_DATA_WORDS] = token;
    this.#logits[index * TOKEN_DATA_WORDS + 1] = 0;
  }

  #array(size: number): LlamaTokenDataArray {
    return { data: this.#bytes, size, selected: -1, sorted: false };
  }
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
  const outside = grammar.replace(/"(?:[^"\\]|\\.)*"|\[(?:[^\]\\]|\\.)*\]|#.*/g, '');
  let [depth, deepest] = [0, 0];
  for (const character of outside) {
    if (character === '(') deepest = Math.max(deepest, ++depth);
    if (character === ')') depth--;
  }
  return deepest;
}
