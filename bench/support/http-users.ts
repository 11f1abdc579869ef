import { once } from 'node:events';
import { type IncomingMessage, request as startRequest } from 'node:http';
import { text } from 'node:stream/consumers';
import { createParser } from 'eventsource-parser';
import type { Message } from '../../src/core/message.js';

const CHAT_PATH = '/v1/chat/completions';

export interface UserRequest {
  model: string;
  messages: readonly Pick<Message, 'role' | 'content'>[];
  maxTokens: number;
  /** Ask for as many log-probs beside each token. */
  topLogprobs?: number;
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

/** A part of a stream, and when it came. */
interface Arrival {
  ms: number;
  bytes: Buffer;
}

/**
 * Users who ask at once through the OpenAI API and read their streams. The end of a turn is ignored, so that all servers make
 * equally many tokens. They sit on the servers' own processors, so they do as little as they can while a server works: what comes is
 * kept with its time, and understood when all of it is there.
 */
export async function answerTogether(url: string, requests: readonly UserRequest[]): Promise<AnswersTogether> {
  const started = performance.now();
  const streams = await Promise.all(requests.map((request) => readStream(url, request, started)));
  const totalMs = performance.now() - started;
  const answers = streams.map((arrivals, index) => understand(arrivals, requests[index]!));
  const firstTokenMs = Math.max(...answers.map(({ pieceMs }) => pieceMs[0]!));
  // Those who began early have made tokens by then, which count for no server.
  const later = answers.flatMap(({ pieceMs }) => pieceMs).filter((ms) => ms > firstTokenMs).length;
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0);
  const answeredPerSecond = (tokens * 1000) / totalMs;
  return { answeredPerSecond, tokensPerSecond: (later * 1000) / (totalMs - firstTokenMs), firstTokenMs, totalMs, tokens };
}

/** By `node:http`, which with what is put off takes 0.2 ms of a processor for a token; `fetch` and understanding at once took 0.33. */
async function readStream(url: string, user: UserRequest, started: number): Promise<Arrival[]> {
  const { model, messages, maxTokens, topLogprobs } = user;
  const headers = { 'content-type': 'application/json' };
  const request = startRequest(`${url}${CHAT_PATH}`, { method: 'POST', headers, agent: false });
  request.end(
    JSON.stringify({
      model,
      messages,
      max_tokens: maxTokens,
      temperature: 0,
      stream: true,
      stream_options: { include_usage: true },
      ignore_eos: true,
      ...(topLogprobs !== undefined && { logprobs: true, top_logprobs: topLogprobs }),
    }),
  );
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  if (response.statusCode !== 200) throw refused(url, response.statusCode, await text(response));
  const arrivals: Arrival[] = [];
  response.on('data', (bytes: Buffer) => arrivals.push({ ms: performance.now() - started, bytes }));
  await once(response, 'end');
  return arrivals;
}

function understand(arrivals: readonly Arrival[], { maxTokens }: UserRequest): Answer {
  const answer: Answer = { pieceMs: [], tokens: 0 };
  let now = 0;
  const parser = createParser({ onEvent: ({ data }) => readEvent(data, answer, now) });
  const decoder = new TextDecoder();
  for (const { ms, bytes } of arrivals) {
    now = ms;
    parser.feed(decoder.decode(bytes, { stream: true }));
  }
  if (answer.tokens !== maxTokens) throw new Error(`an answer has ${answer.tokens} tokens where ${maxTokens} were asked for`);
  if (answer.pieceMs.length === 0) throw new Error('an answer came without text');
  return answer;
}

/** A server's answer to a chat request. Throws an Error with what it says when it refuses. */
export async function askChat(url: string, body: object): Promise<Response> {
  const response = await fetch(`${url}${CHAT_PATH}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok) throw refused(url, response.status, await response.text());
  return response;
}

function refused(url: string, status: number | undefined, words: string): Error {
  return new Error(`${url} answered ${status}: ${words.slice(0, 500)}`);
}

function readEvent(data: string, answer: Answer, ms: number): void {
  if (data === '[DONE]') return;
  const { choices, usage, error } = JSON.parse(data);
  if (error) throw new Error(error.message);
  if (choices?.[0]?.delta?.content) answer.pieceMs.push(ms);
  if (usage) answer.tokens = usage.completion_tokens;
}
