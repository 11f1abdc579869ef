import { createParser } from 'eventsource-parser';
import type { Message } from '../../src/core/message.js';

export interface UserRequest {
  model: string;
  messages: readonly Pick<Message, 'role' | 'content'>[];
  maxTokens: number;
}

export interface AnswersTogether {
  /** New tokens of all users over the whole time, with their prompts. */
  answeredPerSecond: number;
  /** New tokens of all users a second, from the first token of the last user on; a piece of a stream is taken for a token. */
  tokensPerSecond: number;
  /** Until the last user has his first token. */
  firstTokenMs: number;
  totalMs: number;
  /** New tokens of all users. */
  tokens: number;
}

interface Answer {
  /** When each piece of text came. */
  pieceMs: number[];
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
  const firstTokenMs = Math.max(...answers.map(({ pieceMs }) => pieceMs[0]!));
  // Those who began early have made tokens by then, which count for no server.
  const later = answers.flatMap(({ pieceMs }) => pieceMs).filter((ms) => ms > firstTokenMs).length;
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0);
  const answeredPerSecond = (tokens * 1000) / totalMs;
  return { answeredPerSecond, tokensPerSecond: (later * 1000) / (totalMs - firstTokenMs), firstTokenMs, totalMs, tokens };
}

async function answerOne(url: string, { model, messages, maxTokens }: UserRequest, started: number): Promise<Answer> {
  const response = await askChat(url, {
    model,
    messages,
    max_tokens: maxTokens,
    temperature: 0,
    stream: true,
    stream_options: { include_usage: true },
    ignore_eos: true,
  });
  if (!response.body) throw new Error('an answer came without a body');
  const answer: Answer = { pieceMs: [], tokens: 0 };
  const parser = createParser({ onEvent: ({ data }) => readEvent(data, answer, started) });
  const decoder = new TextDecoder();
  for await (const bytes of response.body) parser.feed(decoder.decode(bytes, { stream: true }));
  if (answer.tokens !== maxTokens) throw new Error(`an answer has ${answer.tokens} tokens where ${maxTokens} were asked for`);
  if (answer.pieceMs.length === 0) throw new Error('an answer came without text');
  return answer;
}

/** A server's answer to a chat request. Throws an Error with what it says when it refuses. */
export async function askChat(url: string, body: object): Promise<Response> {
  const response = await fetch(`${url}/v1/chat/completions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw new Error(`${url} answered ${response.status}: ${(await response.text()).slice(0, 500)}`);
  return response;
}

function readEvent(data: string, answer: Answer, started: number): void {
  if (data === '[DONE]') return;
  const { choices, usage, error } = JSON.parse(data);
  if (error) throw new Error(error.message);
  if (choices?.[0]?.delta?.content) answer.pieceMs.push(performance.now() - started);
  if (usage) answer.tokens = usage.completion_tokens;
}
