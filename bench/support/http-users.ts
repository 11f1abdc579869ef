import { createParser } from 'eventsource-parser';
import type { Message } from '../../src/core/message.js';

export interface UserRequest {
  model: string;
  messages: readonly Pick<Message, 'role' | 'content'>[];
  maxTokens: number;
}

export interface AnswersTogether {
  /** New tokens of all users a second, from the first token of the last user on. */
  tokensPerSecond: number;
  /** Until the last user has his first token. */
  firstTokenMs: number;
}

interface Answer {
  firstTokenMs: number;
  tokens: number;
}

/**
 * Users who ask at once through the OpenAI API and read their streams. The end of a turn is ignored, so that all servers make
 * equally many tokens.
 */
export async function answerTogether(url: string, requests: readonly UserRequest[]): Promise<AnswersTogether> {
  const started = performance.now();
  const answers = await Promise.all(requests.map((request) => answerOne(url, request, started)));
  const totalMs = performance.now() - started;
  const firstTokenMs = Math.max(...answers.map((answer) => answer.firstTokenMs));
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens - 1, 0);
  return { tokensPerSecond: (tokens * 1000) / (totalMs - firstTokenMs), firstTokenMs };
}

async function answerOne(url: string, { model, messages, maxTokens }: UserRequest, started: number): Promise<Answer> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({
      model,
      messages,
      max_tokens: maxTokens,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
      ignore_eos: true,
    }),
  });
  if (!response.ok || !response.body) throw new Error(`${response.status}: ${(await response.text()).slice(0, 500)}`);
  const answer: Answer = { firstTokenMs: 0, tokens: 0 };
  const parser = createParser({ onEvent: ({ data }) => readEvent(data, answer, started) });
  const decoder = new TextDecoder();
  for await (const bytes of response.body) parser.feed(decoder.decode(bytes, { stream: true }));
  if (answer.tokens !== maxTokens) throw new Error(`an answer has ${answer.tokens} tokens where ${maxTokens} were asked for`);
  return answer;
}

function readEvent(data: string, answer: Answer, started: number): void {
  if (data === '[DONE]') return;
  const { choices, usage, error } = JSON.parse(data);
  if (error) throw new Error(error.message);
  if (choices?.[0]?.delta?.content) answer.firstTokenMs ||= performance.now() - started;
  if (usage) answer.tokens = usage.completion_tokens;
}
