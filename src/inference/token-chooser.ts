import type { Sampling } from '../chat/chat-client.js';
import { CartridgesError } from '../core/errors.js';
import type { GrammarConstraint, GrammarFactory } from './grammar/grammar-constraint.js';
import { LogitChanges } from './logit-changes.js';
import type { GenerationRequest } from './requests.js';
import { Sampler } from './sampler.js';
import type { ChoiceRule } from './token-choice.js';
import type { TopCandidates } from './top-logprobs.js';

/** The best tokens are tried one by one before the grammar is asked for all. */
const FEW_CANDIDATES = 32;
/**
 * So are tokens that are drawn, each without those that were refused before. A draw takes a fifteenth of a millisecond with 49 thousand
 * logits; to ask for all tokens takes a millisecond where few are allowed, and 22 inside a text, where a second draw mostly hits one.
 */
const FEW_DRAWS = 16;

/**
 * Chooses the next token of a request: what the request adds to logits comes first, then the sampler, then the grammar. The
 * logits are as they were afterwards, so that log-probs are those of the model.
 */
export class TokenChooser {
  readonly #sampling: Sampling;
  readonly #sampler: Sampler;
  readonly #changes: LogitChanges | undefined;
  readonly #grammar: GrammarConstraint | undefined;

  /** Throws `INVALID_OPTION`, and `INVALID_INPUT` for a grammar that cannot be used. */
  constructor({ sampling, grammar }: Pick<GenerationRequest, 'sampling' | 'grammar'>, grammars: GrammarFactory) {
    this.#sampling = sampling;
    this.#sampler = new Sampler(sampling);
    this.#changes = LogitChanges.of(sampling);
    this.#grammar = grammar === undefined ? undefined : grammars.parse(grammar);
  }

  /** Takes the best token that may come, without a draw. */
  get isGreedy(): boolean {
    return this.#sampler.isGreedy;
  }

  get candidateCount(): number {
    return this.#sampler.candidateCount;
  }

  /** What its tokens follow from; undefined where more counts than the logits. */
  get rule(): Omit<ChoiceRule, 'topLogprobs'> | undefined {
    if (this.#changes || this.#grammar) return undefined;
    return { sampling: this.#sampling, random: this.#sampler.random };
  }

  /** Takes note that a token was chosen by its {@link rule}. */
  passOver(): void {
    this.#sampler.passOver();
  }

  /** The next token. `candidates` hold at least the best one; they may be filled anew. */
  choose(logits: Float32Array, candidates: TopCandidates): number {
    if (!this.#changes && !this.#grammar) return this.#sampler.choose(logits, candidates);
    this.#changes?.apply(logits);
    try {
      if (this.#changes) candidates.select(logits, this.candidateCount);
      const token = this.#sampler.choose(logits, candidates);
      const allowed = this.#grammar ? this.#chooseAllowed(this.#grammar, token, logits, candidates) : token;
      this.#changes?.count(allowed);
      return allowed;
    } finally {
      this.#changes?.undo(logits);
    }
  }

  dispose(): void {
    this.#grammar?.dispose();
  }

  /** The grammar sees one token in most steps, which is cheap, and all of them only when it refuses that one. */
  #chooseAllowed(grammar: GrammarConstraint, first: number, logits: Float32Array, candidates: TopCandidates): number {
    let token = grammar.allows(first) ? first : undefined;
    if (this.#sampler.isGreedy) token ??= firstAllowed(grammar, logits, candidates);
    else if (!this.#sampler.isFiltered) token ??= this.#drawAgain(grammar, first, logits, candidates);
    token ??= this.#chooseAmongAllowed(grammar, logits, candidates);
    grammar.accept(token);
    return token;
  }

  /**
   * Draws without what was refused, again and again, so that the grammar sees few tokens where it allows most. Whatever was refused
   * so far, the allowed tokens keep their probabilities among each other, so each comes as often as among the allowed ones alone.
   * That does not hold for top-k, top-p and min-p, which choose among the best that are allowed.
   */
  #drawAgain(grammar: GrammarConstraint, first: number, logits: Float32Array, candidates: TopCandidates): number | undefined {
    const refused: { token: number; logit: number }[] = [];
    const refuse = (token: number) => {
      refused.push({ token, logit: logits[token] as number });
      logits[token] = Number.NEGATIVE_INFINITY;
    };
    try {
      for (let token = first; refused.length < FEW_DRAWS; ) {
        refuse(token);
        candidates.select(logits, this.candidateCount);
        if (candidates.logits[0] === Number.NEGATIVE_INFINITY) return undefined;
        token = this.#sampler.choose(logits, candidates);
        if (grammar.allows(token)) return token;
      }
      return undefined;
    } finally {
      for (const { token, logit } of refused) logits[token] = logit;
    }
  }

  /** A new draw among the allowed ones gives each, all draws together, the probability that it has among them. */
  #chooseAmongAllowed(grammar: GrammarConstraint, logits: Float32Array, candidates: TopCandidates): number {
    const undo = grammar.forbid(logits);
    try {
      candidates.select(logits, this.candidateCount);
      if (candidates.logits[0] === Number.NEGATIVE_INFINITY) throw noToken();
      return this.#sampler.choose(logits, candidates);
    } finally {
      undo();
    }
  }
}

/** The best token that is allowed, if it is among the very best. */
function firstAllowed(grammar: GrammarConstraint, logits: Float32Array, candidates: TopCandidates): number | undefined {
  candidates.select(logits, FEW_CANDIDATES);
  return candidates.ids.subarray(1, candidates.count).find((token) => grammar.allows(token));
}

function noToken(): CartridgesError {
  return new CartridgesError('INVALID_INPUT', 'no token of the model continues the text as its grammar demands', {
    hint: "use a grammar of characters that the model's vocabulary has",
  });
}
