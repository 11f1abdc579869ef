import type { FinishReason, GeneratedToken } from '../../inference/requests.js';
import type { Answer, ChoiceToken } from './answer.js';
import { type AnswerHead, type AnswerWriter, answerHead, textOf, usageBody } from './answer-writer.js';
import { packFingerprint } from './fingerprint.js';
import type { ChatAnswerBody, ChatChunkBody, ChatLogprobsBody, UsageBody } from './response-schemas.js';
import type { LogprobWriter } from './token-logprobs.js';

/** Writes answers of /v1/chat/completions. */
export class ChatWriter implements AnswerWriter {
  readonly #answer: Answer;
  readonly #logprobWriter: LogprobWriter;
  readonly #head: AnswerHead;

  constructor(answer: Answer, logprobWriter: LogprobWriter) {
    this.#answer = answer;
    this.#logprobWriter = logprobWriter;
    this.#head = answerHead('chatcmpl', answer);
  }

  whole(choices: readonly (readonly GeneratedToken[])[]): ChatAnswerBody {
    const { logprobsInFingerprint, topLogprobs = 0 } = this.#answer.request;
    return {
      ...this.#head,
      object: 'chat.completion',
      choices: choices.map((tokens, index) => ({
        index,
        message: { role: 'assistant', content: textOf(tokens), refusal: null },
        logprobs: this.#logprobs(tokens),
        finish_reason: tokens.at(-1)?.finishReason as FinishReason,
      })),
      usage: usageBody(this.#answer),
      system_fingerprint: packFingerprint(choices, logprobsInFingerprint, topLogprobs),
    };
  }

  opening(): ChatChunkBody[] {
    return Array.from({ length: this.#answer.request.choices }, (_, index) =>
      this.#chunk({ index, delta: { role: 'assistant', content: '' }, logprobs: null, finish_reason: null }),
    );
  }

  part({ choice, generated }: ChoiceToken): ChatChunkBody | undefined {
    const { text, finishReason = null } = generated;
    const logprobs = this.#logprobs([generated]);
    if (text === '' && finishReason === null && !logprobs) return undefined;
    const delta = text === '' && !logprobs?.content.length ? {} : { content: text };
    return this.#chunk({ index: choice, delta, logprobs, finish_reason: finishReason });
  }

  closing(usage: UsageBody): ChatChunkBody {
    return { ...this.#head, object: 'chat.completion.chunk', choices: [], usage };
  }

  #chunk(choice: ChatChunkBody['choices'][number]): ChatChunkBody {
    const usage = this.#answer.request.includeUsage && { usage: null };
    return { ...this.#head, object: 'chat.completion.chunk', choices: [choice], ...usage };
  }

  #logprobs(tokens: readonly GeneratedToken[]): ChatLogprobsBody {
    const { topLogprobs, logprobsInFingerprint, ignoreEndOfGeneration } = this.#answer.request;
    if (topLogprobs === undefined || logprobsInFingerprint) return null;
    const content = tokens.flatMap((token) => this.#logprobWriter.write(token, ignoreEndOfGeneration) ?? []);
    return { content, refusal: null };
  }
}
