/** What stands before the question: nothing, the whole text, the text cut to the cartridge's size, or the cartridge. */
export const CONDITIONS = ['none', 'full', 'truncated', 'cartridge'] as const;

export type ConditionName = (typeof CONDITIONS)[number];

/** For people. */
export const CONDITION_TITLES: Readonly<Record<ConditionName, string>> = {
  none: 'no context',
  full: 'full text',
  truncated: 'truncated text',
  cartridge: 'cartridge',
};

/** Something measured in each condition. */
export type PerCondition<T> = Record<ConditionName, T>;

/** How well and at what cost questions are answered in one condition. Null is what was not measured. */
export interface ConditionReport {
  /** Share of questions answered right, 0 to 1. */
  accuracy: number | null;
  /** Share of questions whose reply is the answer and nothing else. */
  exactAccuracy: number | null;
  /** Accuracy by `kind`, where questions have one. */
  byKind?: Record<string, { questions: number; accuracy: number }>;
  /** Of the references: mean negative log-likelihood of a token. */
  loss: number | null;
  /** Of the references. */
  perplexity: number | null;
  /** Bytes of keys and values that all questions share: framing and text, or the cartridge's rows, in the cache type. */
  kvBytes: number;
  /** Mean tokens run before the first answer token. */
  promptTokens: number | null;
  /** Median. */
  timeToFirstTokenMs: number | null;
  /** Median. */
  decodeTokensPerSecond: number | null;
  /** Of what the assistant says in held-out conversations, when there are any: mean negative log-likelihood of a token. */
  conversations?: { loss: number | null; perplexity: number | null };
  /** The text did not fit the model's context: only its tail was shown. */
  cut?: true;
  /** The cartridge is no larger than the framing of the system message: nothing of the text was shown. */
  withoutText?: true;
  /** Questions and conversations that failed with an error: without an answer they count as wrong, without a loss they are left out of it. */
  failed?: number;
}
