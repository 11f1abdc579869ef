import { CartridgesError } from '../core/errors.js';
import type { Tokenizer } from '../core/tokenizer.js';
import type { Engine } from '../native/engine.js';
import type { LlamaModel, LlamaVocabulary } from '../native/handles.js';
import { callAsync } from '../native/koffi.js';

/** `LLAMA_VOCAB_TYPE_NONE`: libllama aborts the process when asked to tokenise with it. */
const NO_VOCABULARY = 0;

/**
 * The tokenizer of a GGUF, through libllama. Text goes there and back as UTF-8 bytes.
 *
 * @example
 * const tokenizer = await LlamaTokenizer.load(loadEngine(), 'model.gguf');
 * tokenizer.decode(tokenizer.encode('größer 🙂'));   // the same text
 * tokenizer.dispose();
 */
export class LlamaTokenizer implements Tokenizer {
  readonly vocabularySize: number;
  /** Begin-of-sequence and end-of-sequence tokens; undefined where the vocabulary has none. */
  readonly bosToken: number | undefined;
  readonly eosToken: number | undefined;

  readonly #engine: Engine;
  readonly #vocabulary: LlamaVocabulary;
  #ownedModel: LlamaModel | undefined;
  #pieceBuffer = new Uint8Array(64);

  /** Over the vocabulary of a loaded model, which must outlive it. Throws `UNSUPPORTED_MODEL` for a model without one. */
  constructor(engine: Engine, vocabulary: LlamaVocabulary) {
    const { llama } = engine;
    if (llama.llama_vocab_type(vocabulary) === NO_VOCABULARY) {
      throw new CartridgesError('UNSUPPORTED_MODEL', 'the model has no tokenizer', { hint: 'use a GGUF with tokenizer.ggml.*' });
    }
    this.#engine = engine;
    this.#vocabulary = vocabulary;
    this.vocabularySize = llama.llama_vocab_n_tokens(vocabulary);
    this.bosToken = presentToken(llama.llama_vocab_bos(vocabulary));
    this.eosToken = presentToken(llama.llama_vocab_eos(vocabulary));
  }

  /** Loads the vocabulary of a GGUF without its weights; {@link dispose} frees it. Throws `INVALID_MODEL` with the reason. */
  static async load(engine: Engine, path: string): Promise<LlamaTokenizer> {
    const { llama } = engine;
    engine.log.take();
    const parameters = { ...llama.llama_model_default_params(), vocab_only: true, n_gpu_layers: 0 };
    const model = await callAsync(llama.llama_model_load_from_file, path, parameters);
    if (!model) throw new CartridgesError('INVALID_MODEL', `the tokenizer of ${path} cannot be read: ${engine.log.take()}`);
    try {
      const tokenizer = new LlamaTokenizer(engine, llama.llama_model_get_vocab(model));
      tokenizer.#ownedModel = model;
      return tokenizer;
    } catch (error) {
      llama.llama_model_free(model);
      throw error;
    }
  }

  /** Text of the begin-of-sequence token as a chat template spells it; empty where there is none. */
  get bosText(): string {
    return this.#specialText(this.bosToken);
  }

  get eosText(): string {
    return this.#specialText(this.eosToken);
  }

  encode(text: string, options: { parseSpecial?: boolean } = {}): Int32Array {
    if (text === '') return new Int32Array(0);
    const bytes = Buffer.from(text);
    const tokens = new Int32Array(bytes.length + 8);
    const count = this.#tokenize(bytes, tokens, options.parseSpecial ?? false);
    if (count >= 0) return tokens.slice(0, count);
    const larger = new Int32Array(-count);
    return larger.subarray(0, this.#tokenize(bytes, larger, options.parseSpecial ?? false));
  }

  decode(tokens: ArrayLike<number>, options: { special?: boolean } = {}): string {
    return Buffer.concat(Array.from(tokens, (token) => this.tokenBytes(token, options))).toString('utf8');
  }

  tokenBytes(token: number, options: { special?: boolean } = {}): Uint8Array {
    this.#checkToken(token);
    const special = options.special ?? false;
    let length = this.#piece(token, special);
    if (length < 0) {
      this.#pieceBuffer = new Uint8Array(-length);
      length = this.#piece(token, special);
    }
    return this.#pieceBuffer.slice(0, length);
  }

  isEndOfGeneration(token: number): boolean {
    return this.#engine.llama.llama_vocab_is_eog(this.#vocabulary, token);
  }

  /** Frees the vocabulary that {@link load} loaded; one over a loaded model has nothing of its own. */
  dispose(): void {
    if (this.#ownedModel) this.#engine.llama.llama_model_free(this.#ownedModel);
    this.#ownedModel = undefined;
  }

  #specialText(token: number | undefined): string {
    return token === undefined ? '' : this.decode([token], { special: true });
  }

  #tokenize(bytes: Uint8Array, tokens: Int32Array, parseSpecial: boolean): number {
    const { llama_tokenize } = this.#engine.llama;
    return llama_tokenize(this.#vocabulary, bytes, bytes.length, tokens, tokens.length, false, parseSpecial);
  }

  #piece(token: number, special: boolean): number {
    const buffer = this.#pieceBuffer;
    return this.#engine.llama.llama_token_to_piece(this.#vocabulary, token, buffer, buffer.length, 0, special);
  }

  /** libllama throws a C++ exception for an id outside the vocabulary, which ends the process. */
  #checkToken(token: number): void {
    if (Number.isInteger(token) && token >= 0 && token < this.vocabularySize) return;
    throw new CartridgesError('INVALID_INPUT', `token id ${token} is outside the vocabulary of ${this.vocabularySize}`);
  }
}

function presentToken(token: number): number | undefined {
  return token >= 0 ? token : undefined;
}
