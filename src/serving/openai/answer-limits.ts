/** What one request for answers may ask for; everything beyond is refused before any work is done. */
export interface AnswerLimits {
  /** Answers to one prompt (`n`). */
  maxChoices: number;
  /** Prompts of one completion request. */
  maxPrompts: number;
  /** Answers of one request to all of its prompts together. */
  maxAnswers: number;
  maxMessages: number;
  /** UTF-8 bytes of all texts of a request: they are tokenised in one go, at 1 to 4 MB a second, while nothing else can run. */
  maxPromptBytes: number;
  /** Token ids of all prompts that come as ids. */
  maxPromptTokens: number;
  maxStopStrings: number;
  /** UTF-16 units of one stop string: after each new token the end of the text is compared with all of them. */
  maxStopLength: number;
  maxTopLogprobs: number;
  /** Entries of `logit_bias`. */
  maxBiasedTokens: number;
  /** Cartridges that one request composes. */
  maxCartridges: number;
  /** New tokens when the request does not say how many; fewer where the context has less room. */
  defaultAnswerTokens: number;
  /** A reader of a stream that takes nothing for so long is dropped. */
  slowClientSeconds: number;
  /** A reader of a stream that is so many tokens behind is dropped. */
  maxUnreadTokens: number;
}

export const DEFAULT_ANSWER_LIMITS: AnswerLimits = {
  maxChoices: 16,
  maxPrompts: 16,
  maxAnswers: 64,
  maxMessages: 1024,
  maxPromptBytes: 512 << 10,
  maxPromptTokens: 1 << 18,
  maxStopStrings: 4,
  maxStopLength: 256,
  maxTopLogprobs: 20,
  maxBiasedTokens: 1024,
  maxCartridges: 16,
  defaultAnswerTokens: 1024,
  slowClientSeconds: 30,
  maxUnreadTokens: 8192,
};
