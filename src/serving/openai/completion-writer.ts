import type { GeneratedToken } from '../../inference/requests.js';
import type { Answer, ChoiceToken } from './answer.js';
import { type AnswerHead, type AnswerWriter, answerHead, textOf, usageBody } from './answer-writer.js';
import { packFingerprint } from './fingerprint.js';
import type { CompletionAnswerBody, CompletionLogprobsBody, UsageBody } from './response-schemas.js';
import type { LogprobWriter, TokenLogprobs } from './token-logprobs.js';

/** Writes answers of /v1/completions. */
export class CompletionWriter implements AnswerWriter {
  readonly #answer: Answer;
  readonly #logprobWriter: LogprobWriter;
  readonly #head: AnswerHead;
  readonly #offsets = new Map<number, TextOffset>();

  constructor(answer: Answer, logprobWriter: LogprobWriter) {
    this.#answer = answer;
    this.#logprobWriter = logprobWriter;
    this.#head = answerHead('cmpl', answer);
  }

  whole(choices: readonly (readonly GeneratedToken[])[]): CompletionAnswerBody {
    const { logprobsInFingerprint, topLogprobs = 0 } = this.#answer.request;
    return {
      ...this.#head,
      object: 'text_completion',
      choices: choices.map((tokens, index) => this.#choice(index, tokens)),
      usage: usageBody(this.#answer),
      system_fingerprint: packFingerprint(choices, logprobsInFingerprint, topLogprobs),
    };
  }

  opening(): CompletionAnswerBody[] {
    return [];
  }

  part({ choice, generated }: ChoiceToken): CompletionAnswerBody | undefined {
    const part = this.#choice(choice, [generated]);
    if (part.text === '' && part.finish_reason === null && !part.logprobs) return undefined;
    const usage = this.#answer.request.includeUsage && { usage: null };
    return { ...this.#head, object: 'text_completion', choices: [part], ...usage };
  }

  closing(usage: UsageBody): CompletionAnswerBody {
    return { ...this.#head, object: 'text_completion', choices: [], usage };
  }

  #choice(index: number, tokens: readonly GeneratedToken[]): CompletionAnswerBody['choices'][number] {
    const finishReason = tokens.at(-1)?.finishReason ?? null;
    return { index, text: textOf(tokens), logprobs: this.#logprobs(index, tokens), finish_reason: finishReason };
  }

  #logprobs(choice: number, tokens: readonly GeneratedToken[]): CompletionLogprobsBody {
    const { topLogprobs, logprobsInFingerprint, ignoreEndOfGeneration } = this.#answer.request;
    if (topLogprobs === undefined || logprobsInFingerprint) return null;
    const offset = this.#offsets.get(choice) ?? new TextOffset();
    this.#offsets.set(choice, offset);
    const rows = tokens.flatMap((token) => this.#logprobWriter.write(token, ignoreEndOfGeneration) ?? []);
    return {
      tokens: rows.map(({ token }) => token),
      token_logprobs: rows.map(({ logprob }) => logprob),
      top_logprobs: topLogprobs === 0 ? null : rows.map(topByText),
      text_offset: rows.map(({ bytes }) => offset.next(bytes ?? [])),
    };
  }
}

/** Counts the UTF-16 units before each token, also where a character lies across tokens. */
class TextOffset {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  #length = 0;

  /** Where a token begins; `bytes` are its own. */
  next(bytes: readonly number[]): number {
    const start = this.#length;
    this.#length += this.#decoder.decode(Uint8Array.from(bytes), { stream: true }).length;
    return start;
  }
}

/** The most probable tokens and the chosen one, by text; of tokens with the same text the most probable counts. */
function topByText(chosen: TokenLogprobs): Record<string, number> {
  const byText = new Map<string, number>();
  for (const { token, logprob } of [...chosen.top_logprobs, chosen]) {
    if (!byText.has(token)) byText.set(token, logprob);
  }
  return Object.fromEntries(byText);
}
