import type { LlamaTokenizer } from '../../models/tokenizer.js';
import { type LlamaTokenDataArray, TOKEN_DATA_WORDS } from '../../native/structs.js';

/** Sets the logits of the candidates that a grammar refuses to −∞. */
export type ApplyGrammar = (candidates: LlamaTokenDataArray) => void;

/** Characters of a token's text by whose token it is looked for: longer ones rule out few more tokens, and cost time at the start. */
const MAX_PREFIX_CHARACTERS = 3;
const NOBODY = -1;

/** The tokens of a model as entries that libllama reads and changes. */
export class GrammarVocabulary {
  readonly #tokenizer: LlamaTokenizer;
  readonly #bytes: Uint8Array;
  readonly #ids: Int32Array;
  readonly #logits: Float32Array;
  /** What is known of each token: nothing, that it is visible, that it is not. */
  readonly #visibility: Uint8Array;
  /** 1 for a token that the grammar allows. */
  readonly #allowed: Uint8Array;
  #families: PrefixFamilies | undefined;

  constructor(tokenizer: LlamaTokenizer) {
    const { vocabularySize } = tokenizer;
    this.#tokenizer = tokenizer;
    this.#bytes = new Uint8Array(vocabularySize * TOKEN_DATA_WORDS * 4);
    this.#ids = new Int32Array(this.#bytes.buffer);
    this.#logits = new Float32Array(this.#bytes.buffer);
    this.#visibility = new Uint8Array(vocabularySize);
    this.#allowed = new Uint8Array(vocabularySize);
  }

  /** Whether a grammar allows a token. */
  allows(token: number, apply: ApplyGrammar): boolean {
    // A grammar takes a control token for the characters of its name, of which the text shows none.
    if (!this.#isVisible(token)) return false;
    this.#set(0, token);
    apply(this.#array(1));
    return !this.#isRefused(0);
  }

  /**
   * 1 for each token that a grammar allows; holds until the next call. A grammar that goes on with a text goes on with the
   * beginning of that text. So where the token `th` is refused, `the` and all others that begin like it are refused without a
   * look, unless the grammar `namesTokens`. Where it allows little, that leaves a few hundred looks of 49 thousand.
   */
  allAllowed(apply: ApplyGrammar, namesTokens: boolean): Uint8Array {
    this.#families ??= findFamilies(this.#tokenizer);
    const { generations, parents } = this.#families;
    this.#allowed.fill(0);
    for (const generation of generations) {
      let count = 0;
      for (const token of generation) {
        const parent = parents[token] as number;
        if (namesTokens || parent === NOBODY || this.#allowed[parent] === 1) this.#set(count++, token);
      }
      if (count === 0) continue;
      apply(this.#array(count));
      for (let index = 0; index < count; index++) {
        if (!this.#isRefused(index)) this.#allowed[this.#ids[index * TOKEN_DATA_WORDS] as number] = 1;
      }
    }
    return this.#allowed;
  }

  /** Whether it has text or ends the generation. */
  #isVisible(token: number): boolean {
    this.#visibility[token] ||= this.#tokenizer.isEndOfGeneration(token) || this.#tokenizer.tokenBytes(token).length > 0 ? 1 : 2;
    return this.#visibility[token] === 1;
  }

  #isRefused(index: number): boolean {
    return this.#logits[index * TOKEN_DATA_WORDS + 1] === Number.NEGATIVE_INFINITY;
  }

  #set(index: number, token: number): void {
    this.#ids[index * TOKEN_DATA_WORDS] = token;
    this.#logits[index * TOKEN_DATA_WORDS + 1] = 0;
  }

  #array(size: number): LlamaTokenDataArray {
    return { data: this.#bytes, size, selected: -1, sorted: false };
  }
}

/** The visible tokens of a vocabulary by what their texts begin with. */
interface PrefixFamilies {
  /** For each token the one whose text is the longest beginning of its own, if there is one. */
  parents: Int32Array;
  /** Tokens without a parent, then the children of those, and so on. */
  generations: Int32Array[];
}

function findFamilies(tokenizer: LlamaTokenizer): PrefixFamilies {
  const { vocabularySize } = tokenizer;
  const texts = Array.from({ length: vocabularySize }, (_, token) => textOf(tokenizer, token));
  const tokenOf = new Map<string, number>();
  for (const [token, text] of texts.entries()) if (text !== undefined && isShort(text)) tokenOf.set(text, token);
  const parents = Int32Array.from(texts, (text) => (text ? longestBeginning(text, tokenOf) : NOBODY));
  const generations: number[][] = [];
  for (const [token, text] of texts.entries()) {
    if (text === undefined) continue;
    let generation = 0;
    for (let at = parents[token] as number; at !== NOBODY; at = parents[at] as number) generation++;
    generations[generation] ??= [];
    (generations[generation] as number[]).push(token);
  }
  return { parents, generations: generations.map((tokens) => Int32Array.from(tokens)) };
}

/**
 * The text of a token that is visible. It is empty, which is the beginning of no other, where a token is allowed for another
 * reason than its text, which is the end of a generation, and where it is not whole characters: what a grammar says of a part of
 * a character, it does not say of the character.
 */
function textOf(tokenizer: LlamaTokenizer, token: number): string | undefined {
  if (tokenizer.isEndOfGeneration(token)) return '';
  const bytes = tokenizer.tokenBytes(token);
  if (bytes.length === 0) return undefined;
  const text = Buffer.from(bytes).toString();
  return text.includes('\uFFFD') ? '' : text;
}

function isShort(text: string): boolean {
  return text !== '' && text.length <= 2 * MAX_PREFIX_CHARACTERS && [...text].length <= MAX_PREFIX_CHARACTERS;
}

function longestBeginning(text: string, tokenOf: ReadonlyMap<string, number>): number {
  const characters = [...text.slice(0, 2 * (MAX_PREFIX_CHARACTERS + 1))];
  for (let length = Math.min(characters.length - 1, MAX_PREFIX_CHARACTERS); length > 0; length--) {
    const token = tokenOf.get(characters.slice(0, length).join(''));
    if (token !== undefined) return token;
  }
  return NOBODY;
}
