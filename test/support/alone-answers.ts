import { join } from 'node:path';
import { readCartridge } from '../../src/cartridge/cartridge-file.js';
import type { Message } from '../../src/core/message.js';
import type { CartridgeHandle } from '../../src/inference/cartridge-handle.js';
import { ModelSession } from '../../src/pipeline/model-session.js';

/** A token of a greedy answer. */
interface AloneToken {
  bytes: string;
  logprob: number;
  /** Between the log-probs of the two most probable tokens. */
  gap: number;
}

/** A greedy answer of an engine that did nothing else; it goes on behind its end. */
export interface AloneAnswer {
  tokens: readonly AloneToken[];
  /** Tokens of an answer that stops at its end, or at the number that was asked for. */
  length: number;
}

interface AloneQuestion {
  /** Cartridges in front of the chat. */
  ids: readonly string[];
  messages: readonly { role: string; content: string }[];
  maxTokens: number;
}

/** A token as the API gives it with `logprobs`. */
export interface AskedToken {
  bytes: number[] | null;
  logprob: number;
}

/** An answer whose end is ignored is compared up to here. */
const LEAST_TOKENS = 32;

/** Greedy answers of the pocket model, one request at a time, each of an engine that keeps nothing of those before. */
export async function aloneAnswers(cartridgeFolder: string, questions: readonly AloneQuestion[]): Promise<AloneAnswer[]> {
  const session = await ModelSession.open({ model: 'pocket', device: 'cpu', threads: 1 });
  const engine = await session.createEngine({ contextTokens: 1024 });
  const handles = new Map<string, CartridgeHandle>();
  for (const id of new Set(questions.flatMap(({ ids }) => ids))) {
    handles.set(id, await engine.loadCartridge(await readCartridge(join(cartridgeFolder, `${id}.safetensors`))));
  }
  const answers: AloneAnswer[] = [];
  for (const { ids, messages, maxTokens } of questions) {
    const { tokens, logprobs, topLogprobs } = await engine.complete({
      prompt: session.framing.encodePrompt(messages as Message[], { behindCartridge: ids.length > 0 }),
      cartridges: ids.map((id) => handles.get(id)!),
      maxTokens: Math.max(maxTokens, LEAST_TOKENS),
      sampling: { temperature: 0 },
      topLogprobs: 2,
      ignoreEndOfGeneration: true,
    });
    const end = tokens.findIndex((token) => session.tokenizer.isEndOfGeneration(token));
    answers.push({
      length: Math.min(end < 0 ? maxTokens : end, maxTokens),
      tokens: Array.from(tokens, (token, index) => {
        const [best, second] = topLogprobs[index]!.logprobs;
        return {
          bytes: textOfBytes(session.tokenizer.tokenBytes(token)),
          logprob: logprobs[index]!,
          gap: best! - second!,
        };
      }),
    });
  }
  await engine.dispose();
  await session.dispose();
  return answers;
}

interface Comparison {
  /** The first token that is another one; undefined when all are equal. */
  partedAt: number | undefined;
  /** There, between the two tokens that were the most probable ones alone. */
  gap: number;
  /** The largest difference between log-probs of equal tokens. */
  shift: number;
}

/** Compares an answer, or the beginning of one, with the one that its request got alone. */
export function compareAnswers(alone: AloneAnswer, asked: readonly AskedToken[], isWhole: boolean): Comparison {
  let shift = 0;
  const compared = Math.min(asked.length, alone.tokens.length);
  for (let index = 0; index < compared; index++) {
    const expected = alone.tokens[index]!;
    const { bytes, logprob } = asked[index]!;
    if (textOfBytes(bytes ?? []) !== expected.bytes) return { partedAt: index, gap: expected.gap, shift };
    shift = Math.max(shift, Math.abs(logprob - expected.logprob));
  }
  if (!isWhole || asked.length === alone.length) return { partedAt: undefined, gap: 0, shift };
  const partedAt = Math.min(asked.length, alone.length);
  return { partedAt, gap: alone.tokens[partedAt]?.gap ?? Number.POSITIVE_INFINITY, shift };
}

/** Special tokens have no bytes. */
function textOfBytes(bytes: Iterable<number>): string {
  return [...bytes].join(' ');
}
